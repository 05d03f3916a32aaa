// Which of the connections is the console's own. A page cannot read the answer to its handshake, so it is found by what
// this browser sends with one; where others fit as well, it is not known.
import { call, type Schemas } from '../../api/client';

type Connection = Pick<Schemas['Connection'], 'id' | 'connectedAt'>;
/** Clocks of nodes and browsers differ by so much at most, or the connection is not found. */
const CLOCKS_MILLIS = 5000;
/** A connection is listed moments after its handshake. */
const TRIES = 3;
const AGAIN_MILLIS = 300;

/** The gateway's own frames name the connection. */
export function connectionIn(frame: string): string | null {
  if (!frame.startsWith('{"type"')) return null;
  try {
    const { type, connectionId } = JSON.parse(frame) as { type?: unknown; connectionId?: unknown };
    return type === 'error' && typeof connectionId === 'string' ? connectionId : null;
  } catch {
    return null;
  }
}

/** The only one that has begun since. */
export function theOne(connections: Connection[], since: number): string | null {
  const fitting = connections.filter((each) => Date.parse(each.connectedAt) >= since - CLOCKS_MILLIS);
  return fitting.length === 1 ? fitting[0]!.id : null;
}

export async function ownConnection(endpoint: string | null, url: string, since: number): Promise<string | null> {
  const { host } = new URL(url);
  const filter = JSON.stringify({ and: [{ equal: { path: '$.headers.origin', value: location.origin } }, { equal: { path: '$.headers.host', value: host } }] });
  for (let tries = 0; tries < TRIES; tries++) {
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MILLIS));
    try {
      const { data } = await call('get', '/api/v1/connections', { query: { ...(endpoint ? { endpoint } : {}), filter, limit: 1000 } });
      // Where more are open than are listed, the newest are not among them.
      if (data.matched > data.items.length) return null;
      const found = theOne(data.items, since);
      if (found) return found;
    } catch {
      return null;
    }
  }
  return null;
}
