import { expect, it } from 'vitest';
import { byName, byPath } from './order';

it('nodes are in the order of their names, endpoints in that of their paths', () => {
  expect(byName([{ name: 'n10' }, { name: 'n2' }, { name: 'n1' }]).map((node) => node.name)).toEqual(['n1', 'n2', 'n10']);
  expect(byPath([{ path: '/b' }, { path: '/a/10' }, { path: '/a/9' }]).map((endpoint) => endpoint.path)).toEqual(['/a/9', '/a/10', '/b']);
  expect(byName(undefined)).toEqual([]);
});
