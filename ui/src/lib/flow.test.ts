import { expect, it } from 'vitest';
import { flowOf } from './flow';

const traffic = {
  endpointId: 'ep-1', path: '/a', served: { complete: 3, of: 3, degraded: 0 }, connections: 1, openedPerSecond: 0, closedPerSecond: 0, eventsInPerSecond: 4, eventsOutPerSecond: 0, errorsPerSecond: 1, throttledPerSecond: 0,
  routes: [{ route: 'default', type: 'default', eventsPerSecond: 4, errors: { delivery_failed: 0.5, transform_failed: 0.5 }, backends: [{ backend: 'default/default/0', index: 0, requestsPerSecond: 3, failedPerSecond: 0, p50Millis: 1.25, p99Millis: 40 }] }],
};

const rest = { route: 'Rest', type: 'default' as const };

it('what passes, what fails, what is silent', () => {
  expect(flowOf(traffic, rest)).toEqual({ silent: false, rate: '4 /s', failed: '25 % failed', took: '' });
  expect(flowOf(traffic, { ...rest, backend: 0 })).toEqual({ silent: false, rate: '3 /s', failed: '', took: 'p50 1.3 ms, p99 40 ms' });
  expect(flowOf(traffic, { ...rest, backend: 1 })?.silent).toBe(true);
  expect(flowOf(traffic, { route: 'other', type: 'custom' })?.rate).toBe('0 /s');
  expect(flowOf(null, rest)).toBeNull();
});

it('a route is found by its name or, where there is one of it, by its type', () => {
  expect(flowOf({ ...traffic, routes: [{ ...traffic.routes[0]!, route: 'Rest', eventsPerSecond: 9 }] }, rest)?.rate).toBe('9 /s');
  expect(flowOf(traffic, { route: 'Rest', type: 'custom' })?.silent).toBe(true);
});

it('routes of one name and different types are told apart', () => {
  const custom = { ...traffic.routes[0]!, type: 'custom', route: 'Rest', eventsPerSecond: 9, backends: [] };
  const both = { ...traffic, routes: [custom, { ...traffic.routes[0]!, route: 'Rest' }] };
  expect(flowOf(both, rest)?.rate).toBe('4 /s');
  expect(flowOf(both, { route: 'Rest', type: 'custom' })?.rate).toBe('9 /s');
});

it('a node of before says no type', () => {
  expect(flowOf({ ...traffic, routes: [{ ...traffic.routes[0]!, type: '' }] }, rest)?.rate).toBe('4 /s');
});
