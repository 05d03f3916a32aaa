import { expect, it } from 'vitest';
import { addressOf, ADDRESS_EVENT_MAX, requestText, type Question } from './question';

const question: Question = { event: '{\n  "n": 1.50, "t": "a  b"\n}', asText: false, path: '/a', user: '', more: '' };

it('keeps the digits of numbers in the request, and names the document that is asked', () => {
  expect(requestText(question, null)).toContain('"n": 1.50');
  expect(JSON.parse(requestText(question, { version: 3 }))).toEqual({ event: { n: 1.5, t: 'a  b' }, connection: { path: '/a' }, version: 3 });
  expect(JSON.parse(requestText({ ...question, asText: true, path: '/a/{b}', user: 'u' }, { document: '{"path": "/a"}' }))).toEqual({ text: question.event, connection: { user: 'u' }, document: { path: '/a' } });
});

it('puts the question into the address, unless it is too long for one', () => {
  expect(addressOf(question, '/a')).toEqual({ event: '{"n":1.50,"t":"a  b"}', text: null, path: null, user: null, more: null });
  expect(addressOf({ ...question, event: 'no json', asText: true, path: '/b' }, '/a')).toMatchObject({ event: 'no json', text: '1', path: '/b' });
  expect(addressOf({ ...question, event: `"${'x'.repeat(ADDRESS_EVENT_MAX)}"`, user: 'u' }, '/a')).toMatchObject({ event: null, user: 'u' });
});
