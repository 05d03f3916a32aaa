// uPlot with this page's look. Loaded when the first chart is shown.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import type { Samples } from '../../lib/stats';
import { ticks, type Format } from '../../lib/format';
import { lonely, type Line } from './charts';

export interface PlotOptions {
  element: HTMLElement;
  height: number;
  format: Format;
  oncursor: (place: number | null) => void;
}

const SYNC = 'overview';
const POINT_SIZE = 4;

export class Plot {
  private plot: uPlot | null = null;
  private shape = '';
  private readonly options: PlotOptions;

  constructor(options: PlotOptions) {
    this.options = options;
  }

  /** Draws; builds anew when there are other lines or other colours than before. */
  draw(times: number[], lines: Line[], theme: string): void {
    const data = [times, ...lines.map((line) => line.samples)] as uPlot.AlignedData;
    const shape = theme + lines.map((line) => line.label + line.colour).join();
    if (!this.plot || this.shape !== shape) {
      this.plot?.destroy();
      this.plot = new uPlot(this.build(lines), data, this.options.element);
      this.shape = shape;
    } else this.plot.setData(data);
  }

  resize(width: number): void {
    if (width > 0) this.plot?.setSize({ width, height: this.options.height });
  }

  destroy(): void {
    this.plot?.destroy();
    this.plot = null;
  }

  private build(lines: Line[]): uPlot.Options {
    const { element, height, format, oncursor } = this.options;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const font = `11px ${style.fontFamily}`;
    const axis = { stroke: colour('--muted'), font, grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false } };
    return {
      width: Math.max(200, element.clientWidth),
      height,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: SYNC }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, space: 56, size: 28, values: (_, splits, __, ___, step) => splits.map((second) => clock(second, step)) },
        { ...axis, size: 64, space: 32, values: (_, splits) => ticks(splits, format) },
      ],
      series: [
        {},
        ...lines.map((line) => ({
          label: line.label,
          stroke: colour(`--series-${line.colour}`),
          width: 1.5,
          spanGaps: false,
          points: { show: false, size: POINT_SIZE, fill: colour(`--series-${line.colour}`), filter: (plot: uPlot, series: number) => lonely(plot.data[series] as Samples) },
          ...(line.dashed ? { dash: [5, 4] } : {}),
        })),
      ],
      hooks: { setCursor: [(plot) => oncursor(plot.cursor.idx ?? null)] },
    };
  }
}

function clock(second: number, step: number): string {
  const text = new Date(second * 1000).toTimeString();
  return step < 60 ? text.slice(0, 8) : text.slice(0, 5);
}
