import { describe, expect, it } from 'vitest';
import { explainLink, gradeOf, preview, Rows, type LiveEvent } from './events';

const event = (sequence: number, more: Partial<LiveEvent> = {}): LiveEvent => ({
  at: '2026-01-01T00:00:00.000Z', node: 'n1', endpointId: 'ep-1', path: '/a', connectionId: 'c', user: null, direction: 'in', kind: 'message',
  route: 'default', outcome: 'delivered', eventId: null, sequence, bytes: 2, tookMillis: 1, detail: null, data: { action: 'buy' }, ...more,
});
const many = (count: number, from = 0) => Array.from({ length: count }, (_, place) => event(from + place));

describe('rows', () => {
  it('keep the newest thousand', () => {
    const rows = new Rows();
    rows.add(many(700), false);
    rows.add(many(700, 700), false);
    expect([rows.rows.length, rows.rows[0]!.event?.sequence, rows.rows.at(-1)!.event?.sequence]).toEqual([1000, 400, 1399]);
  });
  it('stand still while they are held, and say what they have not kept', () => {
    const rows = new Rows();
    rows.add(many(3), false);
    const before = rows.rows;
    rows.add(many(1200, 3), true);
    expect(rows.rows).toBe(before);
    expect(rows.waiting).toBe(1200);
    rows.release();
    expect(rows.waiting).toBe(0);
    expect(rows.rows.length).toBe(1000);
    expect(rows.rows.at(-1)!.event?.sequence).toBe(1202);
    rows.clear();
    rows.add(many(1), false);
    rows.add(many(1100, 1), true);
    rows.release();
    expect(rows.rows.filter((row) => row.gap).length + rows.rows.length).toBeGreaterThanOrEqual(1000);
  });
  it('mark a time that was not heard, once, and not before the first', () => {
    const rows = new Rows();
    rows.gap('nothing', false);
    expect(rows.rows).toEqual([]);
    rows.add(many(1), false);
    rows.gap('away', false);
    rows.gap('away', false);
    expect(rows.rows.map((row) => row.gap ?? 'event')).toEqual(['event', 'away']);
  });
});

it('an outcome says whose fault it is', () => {
  expect(['delivered', 'throttled', 'delivery_failed', 'no_route', 'new_thing'].map(gradeOf)).toEqual(['green', 'amber', 'red', 'red', 'grey']);
});

it('only what a client sent can be explained', () => {
  expect(explainLink(event(1, { user: 'a b' }))).toBe('#/endpoints/ep-1?tab=explain&event=%7B%22action%22%3A%22buy%22%7D&user=a+b');
  expect(explainLink(event(1, { direction: 'out' }))).toBeNull();
  expect(explainLink(event(1, { data: null }))).toBeNull();
  expect(preview({ long: 'x'.repeat(500) })).toHaveLength(241);
});
