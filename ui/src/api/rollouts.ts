// Where endpoints are served. The API answers for one endpoint at a time, and each answer asks every node.
import { inParallel } from '../lib/poll.svelte';
import { call, Refused, type Schemas } from './client';

export interface RolloutOf {
  id: string;
  path: string;
  rollout: Schemas['Rollout'];
}

const AT_ONCE = 3;

/** Of those that have an active version; one that was deleted meanwhile is left out. */
export async function rollouts(endpoints: Schemas['EndpointPage']['items'], signal: AbortSignal): Promise<RolloutOf[]> {
  const active = endpoints.filter((each) => each.activeVersion !== null && each.activeVersion !== undefined);
  const found = await inParallel(active, AT_ONCE, async ({ id, path }) => {
    try {
      return { id, path, rollout: (await call('get', '/api/v1/endpoints/{id}/rollout', { path: { id }, signal })).data };
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  });
  return found.filter((each) => each !== null);
}

export async function connectionCounts(ids: string[], signal: AbortSignal): Promise<Record<string, number>> {
  const counts = await inParallel(ids, AT_ONCE, async (endpoint) => (await call('get', '/api/v1/connections', { query: { endpoint, limit: 0 }, signal })).data.matched);
  return Object.fromEntries(ids.map((id, place) => [id, counts[place]!]));
}
