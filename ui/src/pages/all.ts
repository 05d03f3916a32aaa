// Every page, loaded when it is first wanted, or before: the node that serves them may be gone when they are.
import type { Component } from 'svelte';

type Load = () => Promise<{ default: Component }>;

export const PAGES: Record<string, Load> = {
  '': () => import('./overview/Overview.svelte'),
  endpoints: () => import('./endpoints/Endpoints.svelte'),
  endpoint: () => import('./endpoint/Endpoint.svelte'),
  new: () => import('./endpoint/New.svelte'),
  connections: () => import('./connections/Connections.svelte'),
  connection: () => import('./connections/One.svelte'),
  live: () => import('./live/Live.svelte'),
  console: () => import('./console/Console.svelte'),
  cluster: () => import('./cluster/Cluster.svelte'),
  access: () => import('./access/Access.svelte'),
};

/** What pages load themselves when they first show it. */
const PARTS: (() => Promise<unknown>)[] = [() => import('../parts/editor/editor'), () => import('./overview/plot')];

/** Which page a place in the address bar is. */
export function choose([first = '', second]: string[]): string {
  if (first === 'endpoints' && second) return second === 'new' ? 'new' : 'endpoint';
  if (first === 'connections' && second) return 'connection';
  return first;
}

const idle = (): Promise<void> =>
  new Promise((resolve) => {
    if ('requestIdleCallback' in window) requestIdleCallback(() => resolve(), { timeout: 5000 });
    else setTimeout(resolve, 1000);
  });

/** The page that is looked at comes first, with its figures. */
const AHEAD_AFTER_MILLIS = 2000;

/** One after another, while nothing else is to be done. What cannot be loaded is loaded when it is wanted. */
export async function loadAhead(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, AHEAD_AFTER_MILLIS));
  for (const load of [...Object.values(PAGES), ...PARTS]) {
    await idle();
    await load().catch(() => {});
  }
}
