// The figures of the cluster over time. A range of 5 minutes is read once, then lives of the stream's samples; the other
// ranges, and what only a reading says, are read again every ten seconds. Without the stream, readings take its place.
import { untrack } from 'svelte';
import { ask, Lost } from '../../api/client';
import { live } from '../../api/live.svelte';
import { merge, ofLive, POLL_MILLIS, READ_MILLIS, since, type LiveSamples, type Range, type StatsAnswer, type Window } from '../../lib/stats';

export class Feed {
  window = $state.raw<Window | null>(null);
  error = $state.raw<unknown>(null);
  /** When the newest figures came. */
  at = $state<number | null>(null);
  private heardAt = 0;

  /** For `$effect`: until the effect ends. A hidden tab asks nothing. */
  run(range: Range): () => void {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    // The effect must not begin anew with each sample.
    if (untrack(() => this.window?.range) !== range) this.window = null;
    let readAt = 0;
    const again = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      const heard = Date.now() - this.heardAt < POLL_MILLIS * 2;
      if (!(range === '5m' && heard) || Date.now() - readAt >= READ_MILLIS) {
        await this.read(range, abort.signal);
        readAt = Date.now();
      }
      if (!abort.signal.aborted) timer = setTimeout(again, range === '5m' ? POLL_MILLIS : READ_MILLIS);
    };
    const visible = () => void again();
    document.addEventListener('visibilitychange', visible);
    untrack(() => void again());
    const deaf = range !== '5m' ? null : live.listen({
      topics: ['samples'],
      hear: (name, data) => {
        // Until the first reading there is nothing to lay them over.
        if (name !== 'samples' || !this.window) return;
        this.heardAt = Date.now();
        this.take(ofLive(data as LiveSamples));
      },
      resumed: () => (readAt = 0),
    });
    return () => {
      document.removeEventListener('visibilitychange', visible);
      clearTimeout(timer);
      abort.abort();
      deaf?.();
    };
  }

  private take(answer: StatsAnswer): void {
    this.window = merge(this.window, answer);
    this.at = Date.now();
    this.error = null;
  }

  private async read(range: Range, signal: AbortSignal): Promise<void> {
    const known = this.window;
    const tail = known?.range === range && range === '5m' ? `&since=${since(known)}` : '';
    try {
      const answer = (await ask('GET', `/api/v1/stats?range=${range}${tail}`, { signal })).data as StatsAnswer;
      if (!signal.aborted) this.take(answer);
    } catch (error) {
      if (error instanceof Lost) error.again = true;
      if (!signal.aborted) this.error = error;
    }
  }
}
