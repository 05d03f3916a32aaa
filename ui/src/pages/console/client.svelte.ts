// One WebSocket connection of this tab, and what went over it. It stays open while other pages are looked at.
import { session } from '../../api/session.svelte';
import { closeAdvice, closeMeaning } from '../../lib/closecodes';
import { bytes, millis, span } from '../../lib/format';
import { opened } from '../../lib/opened.svelte';
import { connectionIn, ownConnection } from './own';

export interface Entry {
  id: number;
  at: number;
  kind: 'sent' | 'received' | 'info' | 'fault';
  text: string;
  /** Beside the time: how long after what. */
  timing: string;
  size: string;
}

type State = 'closed' | 'opening' | 'open' | 'closing';
/** Older entries are let go. */
const ENTRIES_MAX = 500;
const utf8 = new TextEncoder();

class ConsoleClient {
  state = $state<State>('closed');
  entries = $state.raw<Entry[]>([]);
  protocol = $state('');
  /** Where it goes, and to which endpoint where that was chosen. */
  url = $state('');
  endpoint = $state<string | null>(null);
  dropped = $state(0);
  /** The connection's own id, once it is known. */
  connection = $state<string | null>(null);
  private socket: WebSocket | null = null;
  private started = 0;
  private sentAt: number | null = null;
  private openedAt: number | null = null;
  private last = 0;

  connect(url: string, protocols: string[], endpoint: string | null): void {
    this.close();
    this.url = url;
    this.endpoint = endpoint;
    this.started = performance.now();
    this.openedAt = null;
    this.sentAt = null;
    this.protocol = '';
    this.connection = null;
    const since = Date.now();
    let socket: WebSocket;
    try {
      socket = new WebSocket(url, protocols);
    } catch (error) {
      this.add('fault', error instanceof Error ? error.message : String(error));
      return;
    }
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    this.state = 'opening';
    this.add('info', `Connecting to ${url}`);
    const mine = (run: () => void) => () => {
      if (this.socket === socket) run();
    };
    socket.onopen = mine(() => {
      this.openedAt = performance.now();
      this.state = 'open';
      this.protocol = socket.protocol;
      this.add('info', socket.protocol ? `Open, with the subprotocol ${socket.protocol}` : 'Open', `handshake ${millis(Math.round(this.openedAt - this.started))}`);
      void ownConnection(endpoint, url, since).then((id) => {
        if (this.socket === socket) this.connection ??= id;
      });
    });
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      if (this.socket !== socket) return;
      const timing = this.sentAt === null ? '' : `${millis(Math.round((performance.now() - this.sentAt) * 10) / 10)} after the last sent`;
      if (typeof event.data === 'string') this.connection ??= connectionIn(event.data);
      if (typeof event.data === 'string') this.add('received', event.data, timing, utf8.encode(event.data).length);
      else this.add('received', hex(event.data), timing, event.data.byteLength);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.state = 'closed';
      if (this.openedAt === null) {
        this.add('fault', 'No connection came about. Browsers do not tell a page why: the handshake was refused, or nothing listens there. The command line says it (below).');
        return;
      }
      const reason = event.reason ? ` “${event.reason}”` : '';
      const lasted = `open for ${span(performance.now() - this.openedAt)}`;
      this.add(event.code === 1000 || event.code === 1005 ? 'info' : 'fault', `Closed: ${event.code}${reason} – ${closeMeaning(event.code, event.reason)}. ${event.code === 1000 || event.code === 1005 ? '' : closeAdvice(event.code)}`.trim(), lasted);
    };
  }

  send(text: string): void {
    if (!this.socket || this.state !== 'open') return;
    this.socket.send(text);
    this.sentAt = performance.now();
    this.add('sent', text, '', utf8.encode(text).length);
  }

  close(): void {
    if (!this.socket) return;
    if (this.state === 'opening') {
      this.socket.close();
      this.socket = null;
      this.state = 'closed';
      return;
    }
    this.state = 'closing';
    this.socket.close(1000);
  }

  clear(): void {
    this.entries = [];
    this.dropped = 0;
  }

  private add(kind: Entry['kind'], text: string, timing = '', size?: number): void {
    const entry: Entry = { id: ++this.last, at: Date.now(), kind, text, timing, size: size === undefined ? '' : bytes(size) };
    const entries = [...this.entries, entry];
    this.dropped += Math.max(0, entries.length - ENTRIES_MAX);
    this.entries = entries.slice(-ENTRIES_MAX);
  }
}

function hex(data: ArrayBuffer): string {
  const shown = Array.from(new Uint8Array(data.slice(0, 256)), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `binary: ${shown}${data.byteLength > 256 ? ' …' : ''}`;
}

export const client = new ConsoleClient();

interface Form {
  address: string | null;
  values: Record<string, string>;
  search: string;
  offered: string;
  message: string;
  raw: boolean;
}
const EMPTY: Form = { address: null, values: {}, search: '', offered: '', message: '{"hello": "world"}', raw: false };
const KEY = 'wsgateway.console';
/** So much of it is kept in the tab. */
const KEPT_MAX = 100_000;

/** What was typed beside it. It is kept in the tab while that is loaded again, and not in the address: a query often has a
 *  client's token in it. */
export const form = $state<Form>({ ...EMPTY, ...kept() });

function kept(): Partial<Form> {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? '{}') as Partial<Form>;
  } catch {
    return {};
  }
}

$effect.root(() => {
  $effect(() => {
    opened.console = client.state === 'open';
  });
  $effect(() => {
    if (session.state !== 'login') return;
    client.close();
    client.clear();
    if (!session.interrupted) Object.assign(form, EMPTY, { values: {} });
  });
  $effect(() => {
    const text = JSON.stringify(form);
    if (text.length <= KEPT_MAX) sessionStorage.setItem(KEY, text);
  });
});
