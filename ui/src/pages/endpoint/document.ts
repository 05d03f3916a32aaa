// An endpoint as it is read: with its document's own bytes, and the version that a change must be based on.
import { call, Refused, type Schemas } from '../../api/client';
import { find, parse, pretty } from '../../lib/json';
import type { Schema } from '../../lib/schema';

export interface Loaded {
  endpoint: Schemas['Endpoint'];
  text: string;
  etag: string | null;
}

/** The text of the member `document` of an answer. */
export function documentOf(answer: string): string {
  const node = find(parse(answer), ['document']);
  return node ? answer.slice(node.from, node.to) : '';
}

export async function load(id: string, signal?: AbortSignal): Promise<Loaded> {
  const answer = await call('get', '/api/v1/endpoints/{id}', { path: { id }, ...(signal ? { signal } : {}) });
  return { endpoint: answer.data, text: documentOf(answer.text), etag: answer.etag };
}

/** As it is shown: what programs write is often one long line. Showing it so is no change of it. */
export function opened(loaded: Loaded): Loaded {
  return loaded.text.trim().includes('\n') ? loaded : { ...loaded, text: pretty(loaded.text) };
}

export async function versionText(id: string, version: number): Promise<string> {
  return documentOf((await call('get', '/api/v1/endpoints/{id}/versions/{version}', { path: { id, version } })).text);
}

let schema: Promise<Schema> | null = null;
export function readSchema(): Promise<Schema> {
  schema ??= call('get', '/api/v1/schemas/endpoint').then((answer) => answer.data as unknown as Schema);
  schema.catch(() => (schema = null));
  return schema;
}

export async function activate(id: string, version: number, message: string, etag?: string | null): Promise<Schemas['Endpoint']> {
  const headers = etag ? { 'If-Match': etag } : {};
  return (await call('post', '/api/v1/endpoints/{id}/versions/{version}/activate', { path: { id, version }, query: { message }, headers })).data;
}

/** What is being written, and what it began from. */
export interface Draft {
  text: string;
  /** Its text is that which is not changed yet; its ETag, what is replaced. */
  base: Loaded;
  /** The version that the text comes from, where it is not the active one. */
  from: number | null;
  message: string;
  activates: boolean;
}

export interface Verdict {
  errors: Schemas['Finding'][];
  warnings: Schemas['Finding'][];
  /** What would change; null: it is not known. */
  changes: Schemas['Change'][] | null;
  /** Something else that kept it from being looked at. */
  problem: unknown;
}

/** Asks the server what it thinks of a document, and what would change, without storing anything. */
export async function judge(id: string | null, text: string, signal: AbortSignal): Promise<Verdict> {
  const verdict: Verdict = { errors: [], warnings: [], changes: null, problem: null };
  const body = { text };
  try {
    if (id === null) {
      const { data } = await call('post', '/api/v1/endpoints', { query: { dryRun: true }, body, signal });
      verdict.warnings = data?.warnings ?? [];
    } else {
      const { data } = await call('put', '/api/v1/endpoints/{id}', { path: { id }, query: { dryRun: true }, body, signal });
      verdict.warnings = data?.warnings ?? [];
      verdict.changes = (await call('post', '/api/v1/endpoints/{id}/diff', { path: { id }, body, signal })).data.changes;
    }
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof Refused && error.findings.length) verdict.errors = error.findings;
    else verdict.problem = error;
  }
  return verdict;
}
