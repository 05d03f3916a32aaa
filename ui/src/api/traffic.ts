// What flows through endpoints, their routes and backends: rates of the last seconds, all nodes added up.
import { ask } from './client';

export interface BackendTraffic {
  backend: string;
  index: number;
  requestsPerSecond: number;
  failedPerSecond: number;
  p50Millis: number | null;
  p99Millis: number | null;
}
export interface RouteTraffic {
  /** '' stands for events that no route took. */
  route: string;
  eventsPerSecond: number;
  errors: Record<string, number>;
  backends: BackendTraffic[];
}
/** How many of the live nodes serve the active version; `degraded` ones cannot. */
export interface Served {
  complete: number;
  of: number;
  degraded: number;
}
export interface EndpointTraffic {
  endpointId: string;
  path: string;
  served: Served;
  connections: number;
  openedPerSecond: number;
  closedPerSecond: number;
  eventsInPerSecond: number;
  eventsOutPerSecond: number;
  errorsPerSecond: number;
  throttledPerSecond: number;
  routes: RouteTraffic[];
}
export interface Traffic {
  overSeconds: number;
  nodes: number;
  unreachable: { node: string; reason: string }[];
  items: EndpointTraffic[];
}

/** Of one endpoint, or of all. */
export async function traffic(signal: AbortSignal, endpoint?: string): Promise<Traffic> {
  return (await ask('GET', `/api/v1/traffic${endpoint ? `?endpoint=${encodeURIComponent(endpoint)}` : ''}`, { signal })).data as Traffic;
}
