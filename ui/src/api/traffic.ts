// What flows through endpoints, their routes and backends: rates of the last seconds, all nodes added up.
import { call, type Schemas } from './client';

export type Traffic = Schemas['Traffic'];
export type EndpointTraffic = Schemas['EndpointTraffic'];
/** How many of the live nodes serve the active version; `degraded` ones cannot. */
export type Served = Schemas['ServedCounts'];

/** Of one endpoint, or of all. */
export async function traffic(signal: AbortSignal, endpoint?: string): Promise<Traffic> {
  return (await call('get', '/api/v1/traffic', { query: endpoint ? { endpoint } : {}, signal })).data;
}
