// What the live stream says about one event or message of a connection, and how a row of it reads.
import { sideOf } from './faults';

/** As `event: event` of `GET /api/v1/live`. The data is redacted by the server. */
export interface LiveEvent {
  at: string;
  node: string;
  endpointId: string;
  path: string;
  connectionId: string;
  user: string | null;
  direction: 'in' | 'out';
  kind: 'message' | 'connect' | 'disconnect' | 'error';
  route: string | null;
  outcome: string;
  eventId: string | null;
  sequence: number | null;
  bytes: number;
  tookMillis: number | null;
  /** Why it failed; of a disconnect, code and reason. */
  detail: string | null;
  data: unknown;
}

export const FILTERS = ['endpoint', 'connection', 'user', 'route', 'direction', 'outcome', 'match'] as const;
export type FilterName = (typeof FILTERS)[number];
export type Filter = Partial<Record<FilterName | 'eventsPerSecond', string>>;

const WELL = new Set(['delivered', 'queued', 'written', 'confirmed', 'echoed', 'accepted', 'forwarded', 'ok', 'opened', 'closed']);

/** A client's fault is amber, everything else that is not well is red. */
export function gradeOf(outcome: string): 'green' | 'amber' | 'red' | 'grey' {
  if (WELL.has(outcome)) return 'green';
  const side = sideOf(outcome);
  if (side === 'client') return 'amber';
  return side || /fail|refus|lost|timeout|dropped|full|error|reject/.test(outcome) ? 'red' : 'grey';
}

export const OUTCOMES = ['delivered', 'queued', 'invalid_json', 'schema_violation', 'no_route', 'transform_failed', 'throttled', 'delivery_failed'];

export const shortId = (id: string): string => (id.length > 16 ? `${id.slice(0, 6)}…${id.slice(-6)}` : id);

const PREVIEW_MAX = 240;

/** The data in one line. */
export function preview(data: unknown): string {
  if (data === null || data === undefined) return '';
  const text = JSON.stringify(data);
  return text.length > PREVIEW_MAX ? `${text.slice(0, PREVIEW_MAX)}…` : text;
}

/** Where an event goes can be explained with what is shown of it: the values that routes look at are there. */
export function explainLink(event: LiveEvent): string | null {
  if (event.direction !== 'in' || event.kind !== 'message' || event.data === null || event.data === undefined) return null;
  const query = new URLSearchParams({ tab: 'explain', event: JSON.stringify(event.data) });
  if (event.user) query.set('user', event.user);
  return `#/endpoints/${encodeURIComponent(event.endpointId)}?${query}`;
}

/** A row: an event, or a time of which nothing is known. */
export type Row = { id: number; event: LiveEvent; gap?: undefined } | { id: number; gap: string; event?: undefined };

/** The rows that are kept, oldest first, and whether they stand still. Pure, but for being changed. */
export class Rows {
  static readonly MAX = 1000;
  rows: Row[] = [];
  /** What came while the rows stood still. */
  private late: Row[] = [];
  /** How many of those are not kept any more. */
  private lost = 0;
  private last = 0;

  get waiting(): number {
    return this.late.length + this.lost;
  }

  add(events: LiveEvent[], held: boolean): void {
    this.append(events.map((event) => ({ id: ++this.last, event })), held);
  }

  gap(text: string, held: boolean): void {
    // A gap at the very beginning, or after another, says nothing.
    const before = this.late.at(-1) ?? this.rows.at(-1);
    if (before && before.gap === undefined) this.append([{ id: ++this.last, gap: text }], held);
  }

  private append(fresh: Row[], held: boolean): void {
    if (!held) {
      this.release();
      this.rows = [...this.rows, ...fresh].slice(-Rows.MAX);
      return;
    }
    this.late.push(...fresh);
    const over = this.late.length - Rows.MAX;
    if (over > 0) {
      this.lost += over;
      this.late.splice(0, over);
    }
  }

  /** Shows what came in the meantime. */
  release(): void {
    if (this.late.length === 0) return;
    const gap: Row[] = this.lost ? [{ id: ++this.last, gap: `${this.lost} events are not kept` }] : [];
    this.rows = [...this.rows, ...gap, ...this.late].slice(-Rows.MAX);
    this.late = [];
    this.lost = 0;
  }

  clear(): void {
    this.rows = [];
    this.late = [];
    this.lost = 0;
  }
}
