// The typed client of the HTTP API. The types come from the OpenAPI document (`npm run api`); this file only knows how
// a call is made, and what an error is: either what the server said (`Refused`) or that it could not be asked (`Lost`).
import type { components, paths } from './schema';
import { link } from './link.svelte';
import { Lost, outcomeOf } from './lost';
import { session } from './session.svelte';

export type Schemas = components['schemas'];
export type Finding = Schemas['Finding'];

type Method = 'get' | 'put' | 'post' | 'delete';
type PathsOf<M extends Method> = { [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never }[keyof paths];
type Operation<M extends Method, P extends PathsOf<M>> = paths[P] extends Record<M, infer O> ? O : never;
type QueryOf<O> = O extends { parameters: { query?: infer Q } } ? Q : never;
type HeadersOf<O> = O extends { parameters: { header?: infer H } } ? H : never;
type PathParameters<P extends keyof paths> = paths[P] extends { parameters: { path: infer X } } ? X : never;
type Content<R> = R extends { content: { 'application/json': infer T } } ? T : undefined;
type Success<O> = O extends { responses: infer R } ? Content<R[Extract<keyof R, 200 | 201 | 202 | 204>]> : never;

export interface Answer<T> {
  data: T;
  /** The body as it came: documents are kept byte for byte, and JavaScript's numbers are not. */
  text: string;
  etag: string | null;
  status: number;
}

export interface Options<M extends Method, P extends PathsOf<M>> {
  path?: PathParameters<P>;
  query?: QueryOf<Operation<M, P>>;
  headers?: HeadersOf<Operation<M, P>>;
  /** A value that is sent as JSON, or a text that is sent as it is. */
  body?: { json: unknown } | { text: string; type?: string };
  signal?: AbortSignal;
}

/** The server said no, in its own words. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly findings: Finding[];
  readonly retryAfterSeconds: number | null;
  constructor(status: number, code: string, detail: string, findings: Finding[], retryAfterSeconds: number | null) {
    super(detail);
    this.status = status;
    this.code = code;
    this.findings = findings;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export { Lost };

export function call<M extends Method, P extends PathsOf<M>>(method: M, path: P, options: Options<M, P> = {}): Promise<Answer<Success<Operation<M, P>>>> {
  const filled = fill(path as string, options.path as Record<string, string> | undefined);
  return ask(method.toUpperCase(), filled + query(options.query), options as AskOptions) as Promise<Answer<Success<Operation<M, P>>>>;
}

interface AskOptions {
  headers?: object | undefined;
  body?: { json: unknown } | { text: string; type?: string } | undefined;
  signal?: AbortSignal | undefined;
  /** The token to show instead of the session's. */
  token?: string | null;
}

/** A call of a path that the OpenAPI document does not type. */
export async function ask(method: string, url: string, options: AskOptions = {}): Promise<Answer<unknown>> {
  const response = await send(method, url, options);
  const text = await response.text().catch(() => {
    throw lost('the answer broke off', method, url, options);
  });
  if (!response.ok) throw refusal(response, text);
  const json = response.headers.get('content-type')?.includes('json') ?? false;
  return { data: json && text ? JSON.parse(text) : undefined, text, etag: response.headers.get('etag'), status: response.status };
}

/** As `ask`, but the body is not read: for downloads. */
export async function download(url: string): Promise<Blob> {
  const response = await send('GET', url, {});
  if (!response.ok) throw refusal(response, await response.text());
  return response.blob();
}

/** An answer that does not end by itself: its body is read piece by piece. */
export async function stream(url: string, signal: AbortSignal): Promise<Response> {
  const response = await send('GET', url, { signal });
  if (!response.ok) throw refusal(response, await response.text());
  return response;
}

async function send(method: string, url: string, options: AskOptions): Promise<Response> {
  const headers = new Headers(options.headers as Record<string, string> | undefined);
  const token = options.token === undefined ? session.token : options.token;
  if (token) headers.set('authorization', `Bearer ${token}`);
  let body: string | undefined;
  if (options.body) {
    body = 'text' in options.body ? options.body.text : JSON.stringify(options.body.json);
    headers.set('content-type', ('text' in options.body && options.body.type) || 'application/json');
  }
  try {
    const response = await fetch(url, { method, headers, body: body ?? null, signal: options.signal ?? null, cache: 'no-store' });
    link.heard();
    if (response.status === 401 && options.token === undefined) session.refused();
    return response;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    link.missed();
    throw lost('this node does not answer', method, url, options);
  }
}

const lost = (message: string, method: string, url: string, options: AskOptions) => new Lost(message, outcomeOf(method, url, 'Idempotency-Key' in (options.headers ?? {})));

function refusal(response: Response, text: string): Refused {
  const retryAfter = Number(response.headers.get('retry-after'));
  try {
    const problem = JSON.parse(text) as Partial<Schemas['Problem']>;
    const detail = problem.detail || problem.title || `status ${response.status}`;
    return new Refused(response.status, problem.code ?? '', detail, problem.errors ?? [], retryAfter || null);
  } catch {
    return new Refused(response.status, '', text.trim() || `${response.status} ${response.statusText}`, [], retryAfter || null);
  }
}

function fill(path: string, parameters: Record<string, string> = {}): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(parameters[name] ?? '')));
}

function query(values: unknown): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values ?? {})) {
    if (value !== undefined && value !== null && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return text && `?${text}`;
}

/** A new key for a write, so that repeating it after a lost answer does it once. */
export function idempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
