// What a close code means and what a client should do about it; as in the HTTP API's documentation.

interface Meaning {
  code: number;
  reason?: string;
  text: string;
}

const MEANINGS: Meaning[] = [
  { code: 1000, reason: 'idle timeout', text: 'no message either way for idleTimeoutInSeconds' },
  { code: 1000, text: 'a normal end' },
  { code: 1001, text: 'the client goes away' },
  { code: 1002, text: 'the client broke the WebSocket protocol' },
  { code: 1003, text: 'binary messages are taken by raw echo endpoints only' },
  { code: 1005, text: 'closed without a code' },
  { code: 1006, text: 'the socket ended without a close frame' },
  { code: 1007, text: 'a text message was not UTF-8' },
  { code: 1008, reason: 'throttled', text: 'a message above a limit, with onExceeded: close' },
  { code: 1008, reason: 'too many fragments', text: 'more than 1024 tiny fragments in one message' },
  { code: 1008, reason: 'too many control frames', text: 'more than 256 pings and pongs within a second' },
  { code: 1008, reason: 'maximum connection duration reached', text: 'the endpoint bounds how long a connection lives' },
  { code: 1009, text: 'a message larger than maxMessageBytes' },
  { code: 1011, text: 'a fault of the gateway’s own' },
  { code: 1012, reason: 'node restarting, reconnect', text: 'the node leaves; connect again' },
  { code: 1012, reason: 'endpoint changed, reconnect', text: 'a new version, with onVersionChange: close; connect again' },
  { code: 1013, text: 'the client read too slowly, its outbox was full' },
  { code: 4401, text: 'the credential expired or is not accepted any more' },
  { code: 4403, text: 'removed by an operator' },
  { code: 4408, text: 'the client did not answer pings' },
  { code: 4409, text: 'resumed on another socket; do not come back' },
  { code: 4410, text: 'the endpoint was deleted' },
];

export function closeMeaning(code: number, reason: string): string {
  const found = MEANINGS.find((each) => each.code === code && each.reason === reason) ?? MEANINGS.find((each) => each.code === code && !each.reason);
  return found?.text ?? (code >= 3000 ? 'a code of the service or of an operator' : 'a code that the gateway does not send');
}

/** Below 4400 a client should come back by itself; from 4400 on it must change something first, 4408 excepted. */
export function closeAdvice(code: number): string {
  return code < 4400 || code === 4408 ? 'Clients should reconnect with backoff.' : 'Clients must change something before they come back.';
}
