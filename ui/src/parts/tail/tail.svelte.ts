// What flows right now: listens to the live stream with a filter, and brings the rows on screen up to date at most once
// for each picture that the browser draws.
import { live } from '../../api/live.svelte';
import { Rows, type Filter, type LiveEvent, type Row } from '../../lib/events';
import { span } from '../../lib/format';

const RATE_SECONDS = 5;
/** A stream that was away for less has missed next to nothing. */
const GAP_MILLIS = 1500;

export class Tail {
  /** Oldest first. */
  rows = $state.raw<Row[]>([]);
  /** How many came since the rows stand still. */
  waiting = $state(0);
  /** Matching events that the server left out, since the list was last cleared. */
  leftOut = $state(0);
  paused = $state(false);
  /** The reader looks at older rows, or at one of them. */
  away = $state(false);
  picked = $state.raw<LiveEvent | null>(null);
  pickedId = $state<number | null>(null);
  /** A pointer is down on a row. */
  private pressed = false;
  private readonly kept = new Rows();
  private fresh: LiveEvent[] = [];
  private frame = 0;
  private counts = new Map<number, number>();
  private since = 0;

  get held(): boolean {
    return this.paused || this.away || this.picked !== null || this.pressed;
  }

  /** For `$effect`: listens until the effect ends. */
  run(filter: Filter): () => void {
    this.since = Date.now();
    const deaf = live.listen({
      topics: ['events'],
      filter,
      hear: (name, data) => {
        if (name === 'event') this.hear(data as LiveEvent);
        else if (name === 'skipped') this.leftOut += (data as { events: number }).events;
      },
      resumed: (since) => {
        const away = Date.now() - since;
        if (away > GAP_MILLIS) this.kept.gap(`not heard for ${span(away)}`, this.held);
        this.show();
      },
    });
    return () => {
      deaf();
      cancelAnimationFrame(this.frame);
      this.frame = 0;
      this.fresh = [];
    };
  }

  private hear(event: LiveEvent): void {
    this.fresh.push(event);
    const second = Math.floor(Date.now() / 1000);
    this.counts.set(second, (this.counts.get(second) ?? 0) + 1);
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.frame = 0;
    this.kept.add(this.fresh, this.held);
    this.fresh = [];
    this.show();
  }

  private show(): void {
    this.rows = this.kept.rows;
    this.waiting = this.kept.waiting;
  }

  /** Events a second, of the last whole seconds before `now`, in milliseconds. */
  rate(now: number): number {
    const second = Math.floor(now / 1000);
    for (const each of this.counts.keys()) if (each < second - RATE_SECONDS) this.counts.delete(each);
    let sum = 0;
    for (const [each, count] of this.counts) if (each < second) sum += count;
    return sum / Math.min(RATE_SECONDS, Math.max(1, second - Math.floor(this.since / 1000)));
  }

  pick(row: Row | null): void {
    this.picked = row?.event ?? null;
    this.pickedId = row?.id ?? null;
    if (!this.held) this.release();
  }

  setAway(away: boolean): void {
    if (away === this.away) return;
    this.away = away;
    if (!this.held) this.release();
  }

  hold(pressed: boolean): void {
    if (pressed === this.pressed) return;
    this.pressed = pressed;
    // What the press does comes first.
    if (!pressed) setTimeout(() => this.held || this.release());
  }

  pause(paused: boolean): void {
    this.paused = paused;
    if (!this.held) this.release();
  }

  /** Back to the newest, whatever it was that kept the rows still. */
  follow(): void {
    this.paused = this.away = false;
    this.picked = this.pickedId = null;
    this.release();
  }

  private release(): void {
    this.kept.release();
    this.show();
  }

  clear(): void {
    this.kept.clear();
    this.fresh = [];
    this.leftOut = 0;
    this.picked = this.pickedId = null;
    this.away = false;
    this.show();
  }
}
