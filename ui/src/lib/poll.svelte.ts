// Something that is asked for again and again. What was read last stays on screen when a call fails; `at` says its age.
import { Lost } from '../api/lost';

/** What is read once only is asked for again so long after a call to which no answer came. */
const LOST_AGAIN_MILLIS = 5000;

export class Poll<T> {
  data = $state.raw<T | undefined>(undefined);
  error = $state.raw<unknown>(null);
  /** When `data` was read, in milliseconds. */
  at = $state<number | null>(null);
  private timer: ReturnType<typeof setTimeout> | undefined;
  private abort: AbortController | undefined;
  private readonly ask: (signal: AbortSignal) => Promise<T>;
  private readonly everyMillis: number;

  /** `everyMillis` 0: only when asked to by `refresh`, and while no answer comes. */
  constructor(ask: (signal: AbortSignal) => Promise<T>, everyMillis: number) {
    this.ask = ask;
    this.everyMillis = everyMillis;
  }

  /** For `$effect`: polls until the effect ends. A hidden tab asks nothing. */
  run(): () => void {
    const visible = () => {
      if (!document.hidden) void this.refresh();
    };
    document.addEventListener('visibilitychange', visible);
    void this.refresh();
    return () => {
      document.removeEventListener('visibilitychange', visible);
      clearTimeout(this.timer);
      this.abort?.abort();
      this.abort = undefined;
    };
  }

  /** What was heard in another way. */
  put(data: T): void {
    this.data = data;
    this.at = Date.now();
    this.error = null;
  }

  async refresh(): Promise<void> {
    clearTimeout(this.timer);
    this.abort?.abort();
    const abort = new AbortController();
    this.abort = abort;
    try {
      const data = await this.ask(abort.signal);
      if (abort.signal.aborted) return;
      this.put(data);
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof Lost) error.again = true;
      this.error = error;
    }
    const wait = this.everyMillis || (this.error instanceof Lost ? LOST_AGAIN_MILLIS : 0);
    if (wait > 0 && !document.hidden) this.timer = setTimeout(() => document.hidden || void this.refresh(), wait);
  }
}

/** At most `width` of them at once; the order of the answers is that of the items. */
export async function inParallel<T, R>(items: T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const place = next++;
      results[place] = await work(items[place]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return results;
}
