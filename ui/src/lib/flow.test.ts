import { expect, it } from 'vitest';
import { flowOf } from './flow';

const traffic = {
  endpointId: 'ep-1', path: '/a', served: { complete: 3, of: 3, degraded: 0 }, connections: 1, openedPerSecond: 0, closedPerSecond: 0, eventsInPerSecond: 4, eventsOutPerSecond: 0, errorsPerSecond: 1, throttledPerSecond: 0,
  routes: [{ route: 'default', eventsPerSecond: 4, errors: { delivery_failed: 0.5, transform_failed: 0.5 }, backends: [{ backend: 'default/default/0', index: 0, requestsPerSecond: 3, failedPerSecond: 0, p50Millis: 1.25, p99Millis: 40 }] }],
};

it('what passes, what fails, what is silent', () => {
  expect(flowOf(traffic, 'default')).toEqual({ silent: false, rate: '4 /s', failed: '25 % failed', took: '' });
  expect(flowOf(traffic, 'default', 0)).toEqual({ silent: false, rate: '3 /s', failed: '', took: 'p50 1.3 ms, p99 40 ms' });
  expect(flowOf(traffic, 'default', 1)?.silent).toBe(true);
  expect(flowOf(traffic, 'other')?.rate).toBe('0 /s');
  expect(flowOf(null, 'default')).toBeNull();
});
