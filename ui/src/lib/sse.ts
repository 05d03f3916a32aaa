// The format of server-sent events (WHATWG HTML, 9.2), as far as the gateway writes it: pieces of text in, events out.
// EventSource would read it, but cannot send a token.

export interface ServerEvent {
  name: string;
  data: string;
}

export class ServerEvents {
  private rest = '';
  private name = '';
  private data: string[] = [];

  /** What is complete with this piece. Comments and fields that are not used here are passed over. */
  push(piece: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const lines = (this.rest + piece).split('\n');
    this.rest = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (this.data.length) found.push({ name: this.name || 'message', data: this.data.join('\n') });
        this.name = '';
        this.data = [];
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') this.name = value;
      else if (field === 'data') this.data.push(value);
    }
    return found;
  }
}

/** How long to wait before the connection is tried again: doubled each time, and not the same for every tab. */
export function backoffMillis(attempt: number, random: number = Math.random()): number {
  return Math.min(15_000, 500 * 2 ** attempt) * (0.75 + random / 2);
}
