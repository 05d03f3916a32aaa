// The figures of the cluster over time, read again and again; only what is missing where that is worth it.
import { ask, Refused } from '../../api/client';
import { merge, POLL_MILLIS, since, type Range, type StatsAnswer, type Window } from '../../lib/stats';

export class Feed {
  window = $state.raw<Window | null>(null);
  error = $state.raw<unknown>(null);
  at = $state<number | null>(null);
  /** The node does not have the call. */
  missing = $state(false);

  /** For `$effect`: reads until the effect ends. A hidden tab asks nothing. */
  run(range: Range): () => void {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    if (this.window?.range !== range) this.window = null;
    const again = async () => {
      clearTimeout(timer);
      if (document.hidden) return;
      await this.read(range, abort.signal);
      // A node that keeps no figures will not begin to within this visit.
      if (!abort.signal.aborted && !this.missing) timer = setTimeout(again, POLL_MILLIS[range]);
    };
    const visible = () => void again();
    document.addEventListener('visibilitychange', visible);
    void again();
    return () => {
      document.removeEventListener('visibilitychange', visible);
      clearTimeout(timer);
      abort.abort();
    };
  }

  private async read(range: Range, signal: AbortSignal): Promise<void> {
    const known = this.window;
    const tail = known?.range === range && range === '5m' ? `&since=${since(known)}` : '';
    try {
      const answer = (await ask('GET', `/api/v1/stats?range=${range}${tail}`, { signal })).data as StatsAnswer;
      if (signal.aborted) return;
      this.window = merge(known, answer);
      this.at = Date.now();
      this.error = null;
    } catch (error) {
      if (signal.aborted) return;
      this.missing = error instanceof Refused && error.status === 404;
      this.error = this.missing ? null : error;
    }
  }
}
