// Figures over time: one window of samples for each node, on one grid of steps, and what is computed from them.
// null is "no sample" and stays a gap.
import { byName } from './order';

export const RANGES = ['5m', '1h', '24h'] as const;
export type Range = (typeof RANGES)[number];
export const RANGE_SECONDS: Record<Range, number> = { '5m': 300, '1h': 3600, '24h': 86_400 };
/** How often the whole is read; what is between these readings comes from the live stream, or else from short ones. */
export const READ_MILLIS = 10_000;
export const POLL_MILLIS = 2000;

export type Samples = (number | null)[];
export const SERIES = ['connections', 'opened', 'closed', 'eventsIn', 'eventsOut', 'throttled', 'backendP50Millis', 'backendP99Millis', 'memoryBytes'] as const;
export type Series = (typeof SERIES)[number];

/** As `GET /api/v1/stats` answers. */
export interface StatsAnswer {
  range: Range;
  stepSeconds: number;
  nodes: NodeAnswer[];
}
export interface NodeAnswer {
  nodeId: string;
  name: string;
  reachable: boolean;
  /** Why it did not answer. */
  reason?: string;
  /** Unix seconds of the first sample. */
  from: number;
  /** Nothing of a node that did not answer. */
  samples?: Partial<Record<Series, Samples>> & { errors?: Record<string, Samples> };
  /** How many connections the node takes at most, where it says so. */
  connectionsMax?: number | null;
  latency?: Buckets;
}

/** How many answers of backends took how long, of about the last minute. */
export interface Buckets {
  boundsMillis: number[];
  /** One more than bounds: the last are those above the last bound. */
  counts: number[];
}

/** As `event: samples` of the live stream: one second of each node. */
export interface LiveSamples {
  at: number;
  nodes: (Partial<Record<Series, number | null>> & { nodeId: string; name: string; reachable: boolean; errors?: Record<string, number> })[];
}

export interface NodeWindow {
  nodeId: string;
  name: string;
  reachable: boolean;
  connectionsMax: number | null;
  reason: string | null;
  latency: Buckets | null;
  series: Record<Series, Samples>;
  errors: Record<string, Samples>;
}

/** All nodes on the same grid: sample `i` is at `(first + i) * stepSeconds`. */
export interface Window {
  range: Range;
  stepSeconds: number;
  first: number;
  length: number;
  nodes: NodeWindow[];
}

const empty = (length: number): Samples => new Array<number | null>(length).fill(null);

/** Lays an answer over what is known already; the answer wins, and what falls out of the range is let go. */
export function merge(known: Window | null, answer: StatsAnswer): Window {
  const step = answer.stepSeconds;
  const length = Math.round(RANGE_SECONDS[answer.range] / step);
  const ends = answer.nodes.filter((node) => longest(node) > 0).map((node) => Math.floor(node.from / step) + longest(node));
  const same = known?.range === answer.range && known.stepSeconds === step ? known : null;
  const end = Math.max(same ? same.first + same.length : -Infinity, ...ends);
  const first = Number.isFinite(end) ? end - length : 0;
  const nodes = byName(answer.nodes).map((node) => {
    const before = same?.nodes.find((each) => each.nodeId === node.nodeId);
    const offset = Math.floor(node.from / step) - first;
    const lay = (old: Samples | undefined, fresh: Samples | undefined) => {
      const into = empty(length);
      if (old && same) copy(old, into, same.first - first);
      if (fresh) copy(fresh, into, offset);
      return into;
    };
    const series = Object.fromEntries(SERIES.map((name) => [name, lay(before?.series[name], node.samples?.[name])])) as Record<Series, Samples>;
    const codes = new Set([...Object.keys(before?.errors ?? {}), ...Object.keys(node.samples?.errors ?? {})]);
    return {
      nodeId: node.nodeId,
      name: node.name,
      reachable: node.reachable,
      reason: node.reason ?? (node.reachable ? null : (before?.reason ?? null)),
      // These are not in every answer.
      connectionsMax: node.connectionsMax ?? before?.connectionsMax ?? null,
      latency: node.latency ?? (node.reachable ? (before?.latency ?? null) : null),
      series,
      errors: Object.fromEntries([...codes].map((code) => [code, zeroes(lay(before?.errors[code], node.samples?.errors?.[code]), series.connections)])),
    };
  });
  return { range: answer.range, stepSeconds: step, first, length, nodes };
}

/** A code that a sample does not name did not occur. */
const zeroes = (samples: Samples, connections: Samples): Samples => samples.map((value, place) => value ?? ((connections[place] ?? null) === null ? null : 0));

/** One second of the live stream, as an answer of one sample. */
export function ofLive({ at, nodes }: LiveSamples): StatsAnswer {
  const one = (value: number | null | undefined): Samples => [value ?? null];
  return {
    range: '5m',
    stepSeconds: 1,
    nodes: nodes.map((node) => ({
      nodeId: node.nodeId,
      name: node.name,
      reachable: node.reachable,
      from: at,
      ...(node.reachable
        ? {
            samples: {
              ...(Object.fromEntries(SERIES.map((name) => [name, one(node[name])])) as Record<Series, Samples>),
              errors: Object.fromEntries(Object.entries(node.errors ?? {}).map(([code, value]) => [code, [value]])),
            },
          }
        : {}),
    })),
  };
}

export interface Bar {
  /** `≤ 5 ms`, `> 1000 ms`. */
  label: string;
  count: number;
  share: number;
  /** Which percentiles fall into it. */
  marks: string[];
}

/** The buckets of all nodes together, those at the ends that are empty left out. null: nothing was measured. */
export function histogram(window: Window): { bars: Bar[]; count: number } | null {
  const first = window.nodes.find((node) => node.latency)?.latency;
  if (!first) return null;
  const bounds = first.boundsMillis;
  // A node of another version may have other bounds; its answers cannot be added.
  const same = window.nodes.flatMap((node) => (node.latency && node.latency.boundsMillis.join() === bounds.join() ? [node.latency.counts] : []));
  const counts = Array.from({ length: bounds.length + 1 }, (_, place) => same.reduce((sum, each) => sum + (each[place] ?? 0), 0));
  const all = counts.reduce((sum, value) => sum + value, 0);
  if (all === 0) return null;
  const placeOf = (share: number) => {
    let sum = 0;
    return counts.findIndex((value) => (sum += value) >= all * share);
  };
  const marks = [['p50', placeOf(0.5)], ['p99', placeOf(0.99)]] as const;
  const bars = counts.map((value, place) => ({
    label: place < bounds.length ? `≤ ${bounds[place]} ms` : `> ${bounds.at(-1)} ms`,
    count: value,
    share: value / all,
    marks: marks.filter(([, at]) => at === place).map(([name]) => name),
  }));
  const from = counts.findIndex((value) => value > 0);
  const to = counts.findLastIndex((value) => value > 0);
  return { bars: bars.slice(Math.max(0, from - 1), to + 2), count: all };
}

const longest = (node: NodeAnswer): number =>
  Math.max(0, ...SERIES.map((name) => node.samples?.[name]?.length ?? 0), ...Object.values(node.samples?.errors ?? {}).map((each) => each.length));

function copy(from: Samples, into: Samples, offset: number): void {
  for (let place = Math.max(0, -offset); place < from.length && place + offset < into.length; place++) into[place + offset] = from[place] ?? null;
}

/** Unix seconds from which on samples are wanted: the newest that some reachable node has, once more. */
export function since(window: Window): number {
  const newest = window.nodes.filter((node) => node.reachable).map((node) => node.series.connections.findLastIndex((value) => value !== null));
  const slowest = newest.length ? Math.max(0, Math.min(...newest)) : 0;
  return (window.first + slowest) * window.stepSeconds;
}

export function times(window: Window): number[] {
  return Array.from({ length: window.length }, (_, place) => (window.first + place) * window.stepSeconds);
}

/** Of all nodes together. A reachable node that has no samples between its others makes a gap: the whole is not known.
 *  A maximum does without a node that has other samples of that time: it had nothing to measure. */
export function total(window: Window, pick: (node: NodeWindow) => Samples, how: 'sum' | 'max' = 'sum'): Samples {
  const parts = window.nodes.map((node) => {
    const samples = pick(node);
    const needed = how === 'sum' ? samples : node.series.connections;
    return { samples, needed, start: needed.findIndex((value) => value !== null), reachable: node.reachable };
  });
  return Array.from({ length: window.length }, (_, place) => {
    let result: number | null = null;
    for (const part of parts) {
      const there = (part.needed[place] ?? null) !== null;
      if (!there && part.reachable && part.start >= 0 && place > part.start) return null;
      const value = part.samples[place] ?? null;
      if (value !== null) result = result === null ? value : how === 'sum' ? result + value : Math.max(result, value);
    }
    return result;
  });
}

/** Counts of steps as counts a second. */
export const perSecond = (samples: Samples, stepSeconds: number): Samples => samples.map((value) => (value === null ? null : value / stepSeconds));

export function errorCodes(window: Window): string[] {
  const codes = new Set(window.nodes.flatMap((node) => Object.keys(node.errors)));
  const sum = (code: string) => window.nodes.reduce((all, node) => all + tally(node.errors[code] ?? []), 0);
  return [...codes].sort((a, b) => sum(b) - sum(a) || a.localeCompare(b));
}

const tally = (samples: Samples): number => samples.reduce<number>((sum, value) => sum + (value ?? 0), 0);

export function newest(samples: Samples): number | null {
  return samples.findLast((value) => value !== null) ?? null;
}

/** These are no events: no connection came about. */
const HANDSHAKES = 'handshake_refused';

/** The part of the events of the last minute that ended in an error; null without an event. */
export function errorShare(window: Window): { share: number; worst: string } | null {
  const share = errorShares(window).at(-1) ?? null;
  if (share === null) return null;
  const tail = (samples: Samples) => tally(samples.slice(-minute(window)));
  const codes = errorCodes(window).filter((code) => code !== HANDSHAKES).map((code) => ({ code, errors: window.nodes.reduce((sum, node) => sum + tail(node.errors[code] ?? []), 0) }));
  const worst = codes.reduce((most, each) => (each.errors > most.errors ? each : most), { code: '', errors: 0 });
  return { share, worst: worst.code };
}

/** The same at each sample, of the minute that ends there. */
export function errorShares(window: Window): Samples {
  const events = lastMinute(window, (node) => [node.series.eventsIn]);
  const errors = lastMinute(window, (node) => Object.entries(node.errors).filter(([code]) => code !== HANDSHAKES).map(([, samples]) => samples));
  return events.map((rate, place) => (rate ? (errors[place] ?? 0) / rate : null));
}

/** The handshakes that were refused in the minute that ends at each sample: how many a second, and which part of all. */
export function refusedHandshakes(window: Window): { rates: Samples; shares: Samples } {
  const rates = lastMinute(window, (node) => [node.errors[HANDSHAKES] ?? []]);
  const opened = lastMinute(window, (node) => [node.series.opened]);
  return { rates, shares: rates.map((refused, place) => (refused === null ? null : refused && refused / (refused + (opened[place] ?? 0)))) };
}

/** What all nodes counted, a second, in the minute that ends at each sample; null: nothing is known yet. In the first
 *  minute, it is the part of it that is there. */
export function lastMinute(window: Window, pick: (node: NodeWindow) => Samples[]): Samples {
  const first = firstKnown(window);
  const each = new Array<number>(window.length).fill(0);
  for (const node of window.nodes) for (const samples of pick(node)) samples.forEach((value, place) => (each[place]! += value ?? 0));
  const steps = minute(window);
  let sum = 0;
  return each.map((value, place) => {
    sum += value - (place >= steps ? each[place - steps]! : 0);
    return place < first ? null : sum / (Math.min(steps, place - first + 1) * window.stepSeconds);
  });
}

const minute = (window: Window): number => Math.max(1, Math.round(60 / window.stepSeconds));
const firstKnown = (window: Window): number => Math.min(Infinity, ...window.nodes.map((node) => node.series.connections.findIndex((value) => value !== null)).filter((place) => place >= 0));

/** Since when something holds, as far as a window goes back: in Unix milliseconds, and whether it may have begun before. */
export interface Since {
  at: number;
  atLeast: boolean;
}

/** Goes back from the newest sample as long as it `holds`; null is "not known", which ends nothing. */
export function heldSince(window: Window, holds: (place: number) => boolean | null): Since | null {
  // Before a whole minute was counted, a minute that is well may be one of few events.
  const whole = firstKnown(window) + minute(window) - 1;
  let start: number | null = null;
  for (let place = window.length - 1; place >= 0; place--) {
    const now = holds(place);
    if (now) start = place;
    else if (now === false && place >= whole) return start === null ? null : { at: timeOf(window, start), atLeast: false };
  }
  return start === null ? null : { at: timeOf(window, start), atLeast: true };
}

const timeOf = (window: Window, place: number): number => (window.first + place) * window.stepSeconds * 1000;

/** The mean of the first minute that a window has: for a window of an hour, what was an hour ago. */
export function atTheStart(window: Window, samples: Samples): number | null {
  const there = samples.slice(0, minute(window)).filter((value) => value !== null);
  return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
}
