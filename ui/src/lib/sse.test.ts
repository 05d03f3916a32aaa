import { expect, it } from 'vitest';
import { backoffMillis, ServerEvents } from './sse';

it('reads events however they are cut, and passes over comments', () => {
  const text = ': hello\n\nevent: samples\ndata: {"a":1}\n\nevent: event\r\ndata: one\r\ndata: two\r\nid: 7\r\n\r\n:\n\ndata: plain\n\nevent: cut\nda';
  const wanted = [{ name: 'samples', data: '{"a":1}' }, { name: 'event', data: 'one\ntwo' }, { name: 'message', data: 'plain' }];
  for (const size of [1, 3, 7, text.length]) {
    const reader = new ServerEvents();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...reader.push(text.slice(at, at + size)));
    expect(found).toEqual(wanted);
  }
});

it('waits longer each time, and never longer than 15 seconds and a bit', () => {
  expect([0, 1, 2, 9].map((attempt) => backoffMillis(attempt, 0.5))).toEqual([500, 1000, 2000, 15_000]);
  expect(backoffMillis(20, 1)).toBeLessThan(19_000);
});
