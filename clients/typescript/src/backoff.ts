// How long a client waits before it comes back: exponential, with full jitter, so that the clients of a node that has
// gone do not come back together.

export interface Backoff {
  /** The most that is waited before the first attempt. */
  firstMillis: number;
  /** The most that is ever waited. */
  maxMillis: number;
}

/** Anything between nothing and the bound of this attempt (0, 1, 2 …), which doubles until it is `maxMillis`. */
export function delayMillis(attempt: number, backoff: Backoff, random: () => number): number {
  const bound = Math.min(backoff.maxMillis, backoff.firstMillis * 2 ** Math.min(attempt, 30));
  return Math.floor(random() * bound);
}
