// The live stream of the node: one connection for the whole tab, whatever pages want of it. It is opened when something
// listens, opened anew with backoff when it breaks off, and closed while the tab is hidden.
import { untrack } from 'svelte';
import { backoffMillis, ServerEvents } from '../lib/sse';
import type { Filter } from '../lib/events';
import { Lost, Refused, stream, type Schemas } from './client';
import { cluster } from './cluster.svelte';

export type Topic = 'samples' | 'events';
export interface Unheard {
  node: string;
  reason: string;
}
export interface Listener {
  topics: Topic[];
  /** Of `events`; there is one tail at a time. */
  filter?: Filter;
  hear(name: string, data: unknown): void;
  /** Something may have been missed: since when, in milliseconds. */
  resumed?(since: number): void;
}

type State = 'closed' | 'opening' | 'open' | 'waiting' | 'refused';
/** The server sends something at least every 15 seconds. */
const SILENCE_MAX_MILLIS = 35_000;

class Live {
  state = $state<State>('closed');
  /** Why there is no stream; null: it is there, or is opened. */
  error = $state.raw<unknown>(null);
  /** When anything came last. */
  heardAt = $state<number | null>(null);
  /** Nodes whose part is missing. */
  unheard = $state.raw<Unheard[]>([]);
  private readonly listeners = new Set<Listener>();
  private wanted = '';
  private opened = '';
  private abort: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;

  constructor() {
    document.addEventListener('visibilitychange', () => this.adjust());
  }

  /** For `$effect`. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    // The effect that listens is not to begin anew for what is looked at here.
    untrack(() => this.adjust());
    return () => {
      this.listeners.delete(listener);
      // Whoever comes next may want the same.
      queueMicrotask(() => this.adjust());
    };
  }

  /** Does not wait any longer. */
  again(): void {
    this.attempt = 0;
    this.opened = '';
    this.adjust();
  }

  private url(): string {
    if (this.listeners.size === 0 || document.hidden) return '';
    const topics = new Set<string>(['cluster']);
    let filter: Filter = {};
    for (const listener of this.listeners) {
      for (const topic of listener.topics) topics.add(topic);
      if (listener.filter) filter = listener.filter;
    }
    const query = new URLSearchParams({ topics: [...topics].sort().join(',') });
    for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value);
    return `/api/v1/live?${query}`;
  }

  private adjust(): void {
    this.wanted = this.url();
    if (this.wanted === this.opened) return;
    const other = this.wanted !== '';
    this.close();
    if (other) {
      this.attempt = 0;
      void this.open();
    }
  }

  private close(): void {
    clearTimeout(this.timer);
    clearTimeout(this.watchdog);
    this.abort?.abort();
    this.abort = null;
    this.opened = '';
    this.state = 'closed';
    this.error = null;
    this.unheard = [];
  }

  private async open(): Promise<void> {
    clearTimeout(this.timer);
    const abort = new AbortController();
    this.abort = abort;
    this.opened = this.wanted;
    this.state = 'opening';
    try {
      const response = await stream(this.opened, abort.signal);
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      this.state = 'open';
      this.error = null;
      if (this.heardAt !== null) for (const listener of this.listeners) listener.resumed?.(this.heardAt);
      const events = new ServerEvents();
      this.heard(abort);
      for (;;) {
        const { value, done } = await reader.read();
        if (abort.signal.aborted) return;
        if (done) break;
        this.attempt = 0;
        this.heard(abort);
        for (const { name, data } of events.push(value)) this.dispatch(name, data);
      }
      this.retry(new Error('the stream ended'));
    } catch (error) {
      if (this.abort !== abort) return;
      // What is wrong with the question stays wrong.
      if (error instanceof Refused && error.status < 500 && error.status !== 429) {
        this.state = 'refused';
        this.error = error;
      } else this.retry(error);
    }
  }

  private heard(abort: AbortController): void {
    this.heardAt = Date.now();
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => {
      if (this.abort !== abort) return;
      this.abort = null;
      abort.abort();
      this.retry(new Error('nothing was heard for too long'));
    }, SILENCE_MAX_MILLIS);
  }

  private retry(error: unknown): void {
    clearTimeout(this.watchdog);
    this.state = 'waiting';
    if (error instanceof Lost) error.again = true;
    this.error = error;
    const asked = error instanceof Refused && error.retryAfterSeconds ? error.retryAfterSeconds * 1000 : 0;
    this.timer = setTimeout(() => void this.open(), Math.max(asked, backoffMillis(this.attempt++)));
  }

  private dispatch(name: string, text: string): void {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch {
      return;
    }
    if (name === 'cluster') cluster.put(data as Schemas['Cluster']);
    else if (name === 'unreachable') this.unheard = (data as { nodes: Unheard[] }).nodes;
    else for (const listener of this.listeners) listener.hear(name, data);
  }
}

export const live = new Live();
