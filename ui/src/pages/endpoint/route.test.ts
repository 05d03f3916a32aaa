import { expect, it } from 'vitest';
import { routeText, type RouteForm } from './route';

const form: RouteForm = { name: 'Buying: "now"', when: 'equal', path: '$.action', value: 'buy', to: 'echo', target: '' };

it('makes the text of a route', () => {
  expect(routeText(form)).toBe('{"type": "custom", "name": "Buying: \\"now\\"", "expression": {"equal": {"path": "$.action", "value": "buy"}}, "backends": [{"type": "echo"}]}');
  expect(JSON.parse(routeText({ ...form, value: '5', to: 'kafka', target: 't' })!)).toMatchObject({ expression: { equal: { value: 5 } }, backends: [{ type: 'kafka', topic: 't' }] });
  expect(JSON.parse(routeText({ ...form, when: 'key', value: '5' })!)).toMatchObject({ key: '5' });
  expect(JSON.parse(routeText({ ...form, when: 'exists', value: '' })!)).toMatchObject({ expression: { exists: { path: '$.action' } } });
});

it('waits for what is missing', () => {
  expect([routeText({ ...form, name: '' }), routeText({ ...form, value: '' }), routeText({ ...form, to: 'http' })]).toEqual([null, null, null]);
});
