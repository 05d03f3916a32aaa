// What is asked of Explain, as it stands in the address bar and in the request.
import { tryParse } from '../../lib/json';

export interface Question {
  /** JSON, or with `asText` the message as it is. */
  event: string;
  asText: boolean;
  path: string;
  user: string;
  /** More of the connection: a JSON object, or nothing. */
  more: string;
}

/** Addresses are shown, kept and sent: longer events are not put into them. */
export const ADDRESS_EVENT_MAX = 2000;

export const isComplete = ({ event, asText, more }: Question): boolean => (asText || tryParse(event) !== null) && (more.trim() === '' || tryParse(more)?.type === 'object');

/** The event is put into the request as it is written: a number keeps its digits. `of` is another document than the active
 *  one: a stored version, or a text. */
export function requestText({ event, asText, path, user, more }: Question, of: { version: number } | { document: string } | null): string {
  const connection = { ...(more.trim() ? (JSON.parse(more) as object) : {}), ...(path && !path.includes('{') ? { path } : {}), ...(user ? { user } : {}) };
  const members = [asText ? `"text": ${JSON.stringify(event)}` : `"event": ${event}`, `"connection": ${JSON.stringify(connection)}`];
  if (of && 'version' in of) members.push(`"version": ${of.version}`);
  if (of && 'document' in of) members.push(`"document": ${of.document}`);
  return `{${members.join(', ')}}`;
}

/** For `router.set`: what a colleague, or oneself after loading the page again, needs to ask the same. */
export function addressOf({ event, asText, path, user, more }: Question, endpointPath: string): Record<string, string | null> {
  const short = event.length + more.length <= ADDRESS_EVENT_MAX;
  const node = asText ? null : tryParse(event);
  // Without its line breaks; numbers stay as they are written.
  const line = node ? event.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, text?: string) => text ?? '') : event;
  return {
    event: short ? line : null,
    text: short && asText ? '1' : null,
    path: path === endpointPath ? null : path,
    user: user || null,
    more: short ? more.trim() || null : null,
  };
}
