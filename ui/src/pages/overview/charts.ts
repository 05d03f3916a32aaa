// Which charts there are, and what lines each has: of all nodes together, or of each node.
import { bytes, count, millis, rate, type Format } from '../../lib/format';
import { errorCodes, perSecond, total, type NodeWindow, type Samples, type Series, type Window } from '../../lib/stats';

export interface Line {
  label: string;
  samples: Samples;
  /** Which of the series colours. */
  colour: number;
  dashed: boolean;
}
export interface ChartSpec {
  id: string;
  title: string;
  /** What is to be known about it, in a line. */
  note?: string;
  format: Format;
  /** For the axis, which has little room; as `format` where there is none. */
  axis?: Format;
  lines: (window: Window, byNode: boolean) => Line[];
}

/** The places of samples with a gap on both sides: a line shows nothing of them. */
export function lonely(samples: Samples): number[] {
  return samples.flatMap((value, place) => (value !== null && (samples[place - 1] ?? null) === null && (samples[place + 1] ?? null) === null ? [place] : []));
}

interface Part {
  label: string;
  of: Series;
  how?: 'max';
}

/** One line for each part, or one for each part and node: the colour is the node's, a dash the second part's. */
function parts(list: Part[], counted: boolean): ChartSpec['lines'] {
  return (window, byNode) => {
    const scale = (samples: Samples) => (counted ? perSecond(samples, window.stepSeconds) : samples);
    return list.flatMap(({ label, of, how }, place) => {
      if (!byNode) return [{ label, samples: scale(total(window, (node) => node.series[of], how ?? 'sum')), colour: place + 1, dashed: false }];
      return window.nodes.map((node, which) => ({
        label: list.length > 1 ? `${node.name} ${label}` : node.name,
        samples: scale(node.series[of]),
        colour: (which % 6) + 1,
        dashed: place > 0,
      }));
    });
  };
}

const ERROR_LINES_MAX = 6;

function errors(window: Window, byNode: boolean): Line[] {
  const codes = errorCodes(window);
  const of = (node: NodeWindow, code: string): Samples => node.errors[code] ?? node.series.connections.map((value) => (value === null ? null : 0));
  if (byNode) {
    return window.nodes.map((node, which) => ({
      label: node.name,
      samples: perSecond(node.series.connections.map((value, at) => (value === null ? null : codes.reduce((sum, code) => sum + (node.errors[code]?.[at] ?? 0), 0))), window.stepSeconds),
      colour: (which % 6) + 1,
      dashed: false,
    }));
  }
  return codes.slice(0, ERROR_LINES_MAX).map((code, place) => ({ label: code, samples: perSecond(total(window, (node) => of(node, code)), window.stepSeconds), colour: place + 1, dashed: false }));
}

const perSecondText: Format = (value, digits) => rate(value, '/s', digits);
const eventsText: Format = (value, digits) => rate(value, 'events/s', digits);

export const CHARTS: ChartSpec[] = [
  { id: 'connections', title: 'Open connections', format: count, lines: parts([{ label: 'open', of: 'connections' }], false) },
  { id: 'turnover', title: 'Connections opened and closed', format: perSecondText, lines: parts([{ label: 'opened', of: 'opened' }, { label: 'closed', of: 'closed' }], true) },
  { id: 'events', title: 'Events', format: eventsText, axis: perSecondText, lines: parts([{ label: 'in', of: 'eventsIn' }, { label: 'out', of: 'eventsOut' }], true) },
  { id: 'errors', title: 'Errors', format: perSecondText, lines: errors },
  {
    id: 'latency',
    title: 'Backend latency',
    note: 'of all nodes: that of the slowest',
    format: millis,
    lines: parts([{ label: 'p50', of: 'backendP50Millis', how: 'max' }, { label: 'p99', of: 'backendP99Millis', how: 'max' }], false),
  },
  { id: 'throttled', title: 'Throttled', format: perSecondText, lines: parts([{ label: 'throttled', of: 'throttled' }], true) },
  { id: 'memory', title: 'Memory', format: bytes, lines: parts([{ label: 'memory', of: 'memoryBytes' }], false) },
];
