// The cluster as the node that is asked sees it, shared by the shell and the pages.
import { Poll } from '../lib/poll.svelte';
import { reachable } from '../lib/reachable';
import { call, type Schemas } from './client';

export type Node = Schemas['Node'];

const EVERY_MILLIS = 5000;

export const cluster = new Poll<Schemas['Cluster']>(async (signal) => (await call('get', '/api/v1/cluster', { signal })).data, EVERY_MILLIS);

/** How many nodes are there; null: it is not known yet. */
export const liveNodes = (): number | null => cluster.data?.nodes.filter((node) => node.live).length ?? null;

/** Where a browser reaches a node: as the node says or, of a program that does not say, by the scheme of this page. */
export const clientUrl = (node: Node): string => reachable(node.clientUrl ?? `${location.protocol === 'https:' ? 'wss' : 'ws'}://${node.clientAddr}`, location.hostname);
export const adminUrl = (node: Node): string => reachable(node.adminUrl ?? `${location.protocol}//${node.adminAddr}`, location.hostname);
