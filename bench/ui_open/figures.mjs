// What the rounds say: medians with the least and the greatest, and ratios within each round, which what drifts on the machine
// touches less.

const RESAMPLES = 10_000;
/** The middle 95 % of them. */
const TAIL = 0.025;

const sorted = (values) => [...values].sort((a, b) => a - b);
function median(values) {
  const all = sorted(values);
  return (all[(all.length - 1) >> 1] + all[all.length >> 1]) / 2;
}

/** The same numbers each time: the interval is a function of the rounds. */
function seeded(state) {
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Of the median, by the bootstrap. */
function interval(values) {
  const random = seeded(1);
  const medians = sorted(Array.from({ length: RESAMPLES }, () => median(values.map(() => values[Math.floor(random() * values.length)]))));
  return [medians[Math.floor(RESAMPLES * TAIL)], medians[Math.ceil(RESAMPLES * (1 - TAIL)) - 1]];
}

const FIGURES = [
  ['events/s', 'perSecond', 0],
  ["nodes' CPU, cores", 'cores', 3],
  ["nodes' CPU s per 100,000", 'cpuPer100k', 3],
  ['p50 ms', 'p50Millis', 2],
  ['p99 ms', 'p99Millis', 2],
];

/** In Markdown, as docs/performance.md has its tables. */
export function table(name, rounds) {
  const spread = (values, digits) => `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} – ${Math.max(...values).toFixed(digits)})`;
  const lines = [`**${name}**, ${rounds.length} rounds, median (min – max)`, '', '| | closed | open | open / closed | 95 % of the median |', '|---|---|---|---|---|'];
  for (const [title, key, digits] of FIGURES) {
    const [closed, open] = ['closed', 'open'].map((turn) => rounds.map((round) => round[turn][key]));
    const ratios = open.map((value, place) => value / closed[place]);
    const [low, high] = interval(ratios);
    lines.push(`| ${title} | ${spread(closed, digits)} | ${spread(open, digits)} | ${spread(ratios, 4)} | ${low.toFixed(4)} – ${high.toFixed(4)} |`);
  }
  const busy = rounds.flatMap((round) => [round.closed.loaderBusy, round.open.loaderBusy]);
  lines.push('', `Chromium took ${spread(rounds.map((round) => round.open.browserCores), 2)} cores, the load program's thread was busy for ${spread(busy, 2)} of the time.`);
  return lines.join('\n');
}
