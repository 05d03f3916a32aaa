// What the search asks the API for.
import { call, type Schemas } from '../api/client';
import { conditionOf } from '../lib/picture';
import { inParallel } from '../lib/poll.svelte';

export interface Hit {
  kind: string;
  text: string;
  detail?: string;
  href: string;
}

const ENDPOINTS_MAX = 20;
/** Routes are in the documents, and there is no call that searches them: so many documents are looked into. */
const DOCUMENTS_MAX = 50;

export async function findEndpoints(path: string, signal: AbortSignal): Promise<Hit[]> {
  const { data } = await call('get', '/api/v1/endpoints', { query: { path, limit: ENDPOINTS_MAX }, signal });
  return data.items.map((each) => ({ kind: 'Endpoint', text: each.path, detail: each.id, href: `#/endpoints/${each.id}` }));
}

const DOCUMENTS_AGE_MILLIS = 30_000;
let kept: { at: number; documents: Promise<Schemas['Endpoint'][]> } | null = null;

async function readDocuments(): Promise<Schemas['Endpoint'][]> {
  const { data } = await call('get', '/api/v1/endpoints', { query: { limit: DOCUMENTS_MAX } });
  return inParallel(data.items, 4, async ({ id }) => (await call('get', '/api/v1/endpoints/{id}', { path: { id } })).data);
}

export async function findRoutes(word: string): Promise<Hit[]> {
  if (!kept || Date.now() - kept.at > DOCUMENTS_AGE_MILLIS) kept = { at: Date.now(), documents: readDocuments() };
  const documents = await kept.documents.catch((error: unknown) => {
    kept = null;
    throw error;
  });
  return documents.flatMap(({ id, path, document }) =>
    (document?.routes ?? [])
      .map((route, place) => ({ route, place, text: `${route.name} ${conditionOf(route, document?.routeSelector)} ${JSON.stringify(route.backends ?? [])}` }))
      .filter((each) => each.text.toLowerCase().includes(word))
      .map(({ route, place }) => ({ kind: 'Route', text: route.name, detail: `${path}, ${route.type}`, href: `#/endpoints/${id}?tab=edit&at=${encodeURIComponent(`routes[${place}]`)}` })),
  );
}
