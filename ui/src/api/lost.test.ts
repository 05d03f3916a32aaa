import { expect, it } from 'vitest';
import { adviceOn, Lost, outcomeOf } from './lost';

it('tells what only looks from what writes, and which write may be repeated', () => {
  expect(outcomeOf('GET', '/api/v1/endpoints', false)).toBe('read');
  expect(outcomeOf('PUT', '/api/v1/endpoints/ep-1?dryRun=true', false)).toBe('read');
  expect(outcomeOf('POST', '/api/v1/endpoints/ep-1/explain', false)).toBe('read');
  expect(outcomeOf('PUT', '/api/v1/endpoints/ep-1?message=x', true)).toBe('repeatable');
  expect(outcomeOf('POST', '/api/v1/connections/c', false)).toBe('unknown');
});

it('promises to ask again only where that is done, and that repeating is safe only with a key', () => {
  const say = (outcome: 'read' | 'repeatable' | 'unknown', again = false, back = false) => adviceOn(Object.assign(new Lost('gone', outcome), { again }), back, 'Save');
  expect(say('read', true)).toBe('It is asked again.');
  expect(say('read')).toBe('');
  expect(say('repeatable')).toBe('Press Save again; repeating it is safe.');
  expect(say('unknown')).toBe('Whether it was done is not known.');
  expect([say('read', true, true), say('repeatable', false, true)]).toEqual([null, null]);
  expect(say('unknown', false, true)).toContain('look before');
});
