// When this tab first saw each alert that has no time of its own. It outlives a reload, not a break in which nobody looked.
const KEY = 'wsgateway.alerts';
/** Longer unseen, it may have been over meanwhile. */
const BREAK_MILLIS = 60_000;

interface Memory {
  /** When any was looked for last. */
  at: number;
  first: Record<string, number>;
}

function remembered(now: number): Record<string, number> {
  try {
    const memory = JSON.parse(sessionStorage.getItem(KEY) ?? '') as Memory;
    return now - memory.at < BREAK_MILLIS ? memory.first : {};
  } catch {
    return {};
  }
}

/** With `all`, one that is not among them is over, and new when it comes back. */
export function seen(ids: string[], all: boolean, now: number): Map<string, number> {
  const first = remembered(now);
  for (const id of Object.keys(first)) if (all && !ids.includes(id)) delete first[id];
  for (const id of ids) first[id] ??= now;
  sessionStorage.setItem(KEY, JSON.stringify({ at: now, first } satisfies Memory));
  return new Map(Object.entries(first));
}
