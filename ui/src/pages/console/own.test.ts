import { expect, it, vi } from 'vitest';

vi.mock('../../api/client', () => ({ call: vi.fn() }));
const { connectionIn, theOne } = await import('./own');

it('knows its own connection by a frame of the gateway, or as the only one that has begun since', () => {
  expect(connectionIn('{"type": "error", "error": {"code": "no_route"}, "connectionId": "AQ1"}')).toBe('AQ1');
  expect([connectionIn('{"type": "message", "connectionId": "AQ1"}'), connectionIn('{"connectionId": "AQ1"}'), connectionIn('{"type"')]).toEqual([null, null, null]);
  const at = (id: string, seconds: number) => ({ id, connectedAt: new Date(1_700_000_000_000 + seconds * 1000).toISOString() });
  expect(theOne([at('old', -60), at('mine', 1)], 1_700_000_000_000)).toBe('mine');
  expect(theOne([at('a', 1), at('b', 2)], 1_700_000_000_000)).toBeNull();
  expect(theOne([at('old', -60)], 1_700_000_000_000)).toBeNull();
});
