// Why endpoints are not served somewhere. The API answers for one endpoint at a time, and each answer asks every node.
import { inParallel } from '../lib/poll.svelte';
import { call, Refused, type Schemas } from './client';

export interface RolloutOf {
  id: string;
  path: string;
  rollout: Schemas['Rollout'];
}

const AT_ONCE = 3;

/** One that was deleted meanwhile is left out. */
export async function rollouts(endpoints: { endpointId: string; path: string }[], signal: AbortSignal): Promise<RolloutOf[]> {
  const found = await inParallel(endpoints, AT_ONCE, async ({ endpointId: id, path }) => {
    try {
      return { id, path, rollout: (await call('get', '/api/v1/endpoints/{id}/rollout', { path: { id }, signal })).data };
    } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  });
  return found.filter((each) => each !== null);
}
