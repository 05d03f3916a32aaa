// What the list of endpoints shows of each, and what it can be sorted by.
import type { Schemas } from '../../api/client';
import type { EndpointTraffic } from '../../api/traffic';

export interface Item {
  id: string;
  endpoint: Schemas['Endpoint'];
  /** null: not known yet. */
  traffic: EndpointTraffic | null;
}

export const COLUMNS = {
  path: { label: 'Path', right: false, live: false, of: (item: Item) => item.endpoint.path },
  connections: { label: 'Connections', right: true, live: true, of: (item: Item) => item.traffic?.connections ?? 0 },
  in: { label: 'Events in', right: true, live: true, of: (item: Item) => item.traffic?.eventsInPerSecond ?? 0 },
  out: { label: 'Events out', right: true, live: true, of: (item: Item) => item.traffic?.eventsOutPerSecond ?? 0 },
  errors: { label: 'Errors', right: true, live: true, of: (item: Item) => errorShareOf(item.traffic) ?? -1 },
  changed: { label: 'Changed', right: false, live: false, of: (item: Item) => Date.parse(item.endpoint.updatedAt) },
} as const;
export type Column = keyof typeof COLUMNS;

export const isColumn = (name: string): name is Column => name in COLUMNS;

/** The part of the events that ended in an error; null without an event. */
export function errorShareOf(traffic: EndpointTraffic | null): number | null {
  if (!traffic || traffic.eventsInPerSecond + traffic.errorsPerSecond === 0) return null;
  return traffic.eventsInPerSecond > 0 ? Math.min(1, traffic.errorsPerSecond / traffic.eventsInPerSecond) : 1;
}
