// What a handshake shows and asks for, and what it is answered when it is refused. No sockets in here.

import type { Backoff } from "./backoff.js";

/** What a refused handshake was answered, where that can be seen: npm's `ws` shows it, browsers do not. */
export interface Refusal {
  status: number;
  retryAfterMillis?: number;
}

export interface Handshake {
  url: string;
  protocols: string[];
}

/** Where the token goes. */
export type TokenPlace = "subprotocol" | { query: string };

const SCHEMES = ["ws:", "wss:", "http:", "https:"];
// Longer is no answer to "when", and timers have an end.
const RETRY_AFTER_MAX_MILLIS = 3_600_000;

/** In a page a URL may be relative to the page's. */
function parsed(url: string): URL {
  const { location } = globalThis as { location?: { href: string } };
  return new URL(url, location?.href);
}

/** The URLs of an option, each looked at now: one that is none would fail for ever. */
export function checkedUrls(option: string | readonly string[]): readonly string[] {
  const urls = typeof option === "string" ? [option] : [...option];
  if (urls.length === 0) throw new TypeError("url: at least one");
  for (const url of urls) {
    let scheme: string;
    try {
      scheme = parsed(url).protocol;
    } catch {
      throw new TypeError(`url: ${JSON.stringify(url)} is none`);
    }
    if (!SCHEMES.includes(scheme)) throw new TypeError(`url: ${JSON.stringify(url)} does not begin with ws:// or wss://`);
  }
  return urls;
}

/** What the handshake shows of a token, and of a session to resume. */
export function shown(
  url: string,
  protocols: readonly string[],
  place: TokenPlace,
  token: string | undefined,
  query: Record<string, string>,
): Handshake {
  const offered = [...protocols];
  const parameters = { ...query };
  if (token !== undefined && place === "subprotocol") offered.push(`bearer.${token}`);
  else if (token !== undefined && place !== "subprotocol") parameters[place.query] = token;
  if (Object.keys(parameters).length === 0) return { url, protocols: offered };
  const whole = parsed(url);
  for (const [name, value] of Object.entries(parameters)) whole.searchParams.set(name, value);
  return { url: whole.href, protocols: offered };
}

/** Of an answer's `Retry-After`: seconds, or a date. */
export function retryAfterMillis(header: unknown, now: number): number | undefined {
  if (typeof header !== "string" || header === "") return undefined;
  const millis = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(millis) ? undefined : Math.min(Math.max(millis, 0), RETRY_AFTER_MAX_MILLIS);
}

/** Of an option: what is not given is the default's, `undefined` too. */
export function backoffOf(given: Partial<Backoff> | undefined, usual: Backoff): Backoff {
  return { firstMillis: given?.firstMillis ?? usual.firstMillis, maxMillis: given?.maxMillis ?? usual.maxMillis };
}
