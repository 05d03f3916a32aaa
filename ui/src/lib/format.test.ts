import { expect, it } from 'vitest';
import { lonely } from '../pages/overview/charts';
import { bytes, count, millis, rate, ticks } from './format';

it('small rates are not nothing, and no two labels of an axis are the same', () => {
  expect([rate(0), rate(0.04), rate(0.5), rate(12.4), rate(0.0003)]).toEqual(['0 /s', '0.04 /s', '0.5 /s', '12 /s', '0.0003 /s']);
  const perSecond = (value: number | null | undefined, digits?: number) => rate(value, '/s', digits);
  expect(ticks([0, 0.05, 0.1], perSecond)).toEqual(['0 /s', '0.05 /s', '0.1 /s']);
  expect(ticks([0, 0.1, 0.15, 0.2], perSecond)).toEqual(['0 /s', '0.1 /s', '0.15 /s', '0.2 /s']);
  expect(ticks([10, 10.5, 11], perSecond)).toEqual(['10 /s', '10.5 /s', '11 /s']);
  expect(ticks([0, 500, 1000], perSecond)).toEqual(['0 /s', '500 /s', '1,000 /s']);
  expect([ticks([0, 0.5, 1], count), ticks([0, 0.25, 0.5], millis), ticks([0, 10_400_000, 10_800_000], bytes)]).toEqual([['0', '0.5', '1'], ['0 ms', '0.25 ms', '0.5 ms'], ['0 B', '10.4 MB', '10.8 MB']]);
});

it('a sample between gaps is a point, since no line leads to it', () => {
  expect(lonely([1, null, 2, null, 3, 4, null, 5])).toEqual([0, 2, 7]);
  expect(lonely([null, 1, 2])).toEqual([]);
});
