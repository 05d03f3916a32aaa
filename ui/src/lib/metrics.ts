// What of a node's own figures (GET /metrics, OpenMetrics text) matters at once and is in no other answer.

export interface Own {
  diskFull: boolean;
  diskFreeBytes: number | null;
  circuitsOpen: { endpoint: string; backend: string }[];
  /** Those that came of late, while this page looked. */
  letters: Letters[];
}
export interface Letters {
  endpoint: string;
  route: string;
  /** `kept`, or why not. */
  outcome: string;
  fresh: number;
}
interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const WANTED = /^wsgateway_(disk_full|disk_free_bytes|backend_circuit|dead_letters_total)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const CIRCUIT_OPEN = 2;
/** For so long letters are spoken of. */
const LETTERS_MILLIS = 5 * 60_000;

export function samples(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const found = WANTED.exec(line);
    if (!found) return [];
    const labels = [...(found[2] ?? '').matchAll(LABEL)].map(([, name, value]) => [name!, unescape(value!)]);
    return [{ name: found[1]!, labels: Object.fromEntries(labels) as Record<string, string>, value: Number(found[3]) }];
  });
}

const unescape = (text: string): string => text.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character));

/** Counters say how many there were since the node has started; which of them are new is known from two readings. */
export class OwnFigures {
  private readonly counted: { at: number; totals: Map<string, number> }[] = [];

  read(text: string, now: number): Own {
    const all = samples(text);
    const one = (name: string) => all.find((sample) => sample.name === name)?.value ?? null;
    const letters = all.filter((sample) => sample.name === 'dead_letters_total');
    const key = ({ labels }: Sample) => JSON.stringify([labels.endpoint, labels.route, labels.outcome]);
    while (this.counted.length > 1 && now - this.counted[1]!.at >= LETTERS_MILLIS) this.counted.shift();
    const before = this.counted[0]?.totals;
    const totals = new Map(letters.map((sample) => [key(sample), sample.value]));
    // A node that was started again counts from the beginning.
    if (before && [...before].some(([series, value]) => (totals.get(series) ?? 0) < value)) this.counted.length = 0;
    this.counted.push({ at: now, totals });
    return {
      diskFull: one('disk_full') === 1,
      diskFreeBytes: one('disk_free_bytes'),
      circuitsOpen: all
        .filter((sample) => sample.name === 'backend_circuit' && sample.value === CIRCUIT_OPEN)
        .map(({ labels }) => ({ endpoint: labels.endpoint ?? '', backend: labels.backend ?? '' })),
      // The first letter begins a series.
      letters: letters
        .map((sample) => ({ endpoint: sample.labels.endpoint ?? '', route: sample.labels.route ?? '', outcome: sample.labels.outcome ?? '', fresh: before ? sample.value - (before.get(key(sample)) ?? 0) : 0 }))
        .filter(({ fresh }) => fresh > 0),
    };
  }
}
