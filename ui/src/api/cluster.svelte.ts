// The cluster as the node that is asked sees it, shared by the shell and the pages.
import { Poll } from '../lib/poll.svelte';
import { call, type Schemas } from './client';

export type Node = Schemas['Node'];

const EVERY_MILLIS = 5000;

export const cluster = new Poll<Schemas['Cluster']>(async (signal) => (await call('get', '/api/v1/cluster', { signal })).data, EVERY_MILLIS);

/** How many nodes are there; null: it is not known yet. */
export const liveNodes = (): number | null => cluster.data?.nodes.filter((node) => node.live).length ?? null;

/** An address that a browser can use: a node that listens on all addresses is where this page came from. */
export function reachable(address: string): string {
  const split = address.lastIndexOf(':');
  const host = address.slice(0, split).replace(/^\[|\]$/g, '');
  const everywhere = host === '' || host === '0.0.0.0' || host === '::';
  return everywhere ? `${location.hostname}${address.slice(split)}` : address;
}
