import { expect, it } from 'vitest';
import { commandLine, fillPath, parametersOf, urlOf } from '../pages/console/target';
import { closeAdvice, closeMeaning } from './closecodes';
import { bytes, millis, plural, span } from './format';
import { keepOrder, sortBy } from './order';

it('figures have units', () => {
  expect([bytes(999), bytes(1500), bytes(262144), millis(3.84), millis(41), span(59_000), span(7_500_000), span(90_000_000)]).toEqual(['999 B', '1.5 KB', '262 KB', '3.8 ms', '41 ms', '59 s', '2 h 5 min', '1 d 1 h']);
  expect([plural(1, 'node'), plural(1204, 'connection')]).toEqual(['1 node', '1,204 connections']);
});

it('a table keeps its order, and what is new comes last', () => {
  expect(keepOrder(['b', 'a', 'x'], [{ id: 'n' }, { id: 'a' }, { id: 'b' }]).map((each) => each.id)).toEqual(['b', 'a', 'n']);
});

it('texts are sorted from A on, figures from the largest on', () => {
  const items = [{ n: 2, t: 'b' }, { n: 9, t: 'a' }, { n: 2, t: 'c' }];
  expect(sortBy(items, (item) => item.n, false).map((item) => item.t).join('')).toBe('abc');
  expect(sortBy(items, (item) => item.n, true).map((item) => item.t).join('')).toBe('bca');
  expect(sortBy(items, (item) => item.t, false).map((item) => item.t).join('')).toBe('abc');
});

it('close codes are told apart by their reasons', () => {
  expect(closeMeaning(1008, 'throttled')).toContain('limit');
  expect(closeMeaning(4000, 'x')).toContain('service');
  expect(closeAdvice(4410)).toContain('must change');
  expect(closeAdvice(4408)).toContain('reconnect');
});

it('the console fills paths and writes the command for the shell', () => {
  expect(parametersOf('/a/{b}/{*rest}')).toEqual(['b', '*rest']);
  expect(fillPath('/a/{b}/{*rest}', { b: 'x y', '*rest': 'c/d' })).toBe('/a/x%20y/c/d');
  expect(urlOf('node:8080', '/a', '?x=1')).toBe('ws://node:8080/a?x=1');
  expect([urlOf('https://gw.example', '/a', ''), urlOf('http://gw:80/', '/a', ''), urlOf(' WSS://gw ', '/a', '')]).toEqual(['wss://gw.example/a', 'ws://gw:80/a', 'wss://gw/a']);
  expect(commandLine("wss://n/a?q='", ['p'])).toBe(`wsgateway ws 'wss://n/a?q='\\''' --subprotocol 'p'`);
});
