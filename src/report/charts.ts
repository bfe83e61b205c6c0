// The curves of a report as inline SVG, drawn by Observable Plot on a document that lives in memory.
// Colours are CSS variables of the page, so that one drawing serves light and dark.
import * as Plot from '@observablehq/plot';
import { Html } from './escape.js';
import { SERIES } from './palette.js';
import { plotSvg } from './plot.js';
import { type Spread, spread } from './statistics.js';
import type { ReportEpoch, ReportRun } from './types.js';

/** A curve: what is read from an epoch, and how its panel is named. */
export interface Panel {
  readonly title: string;
  readonly label: string;
  readonly percent?: boolean;
  readonly value: (epoch: ReportEpoch) => number | null | undefined;
}

/** The panels of every report, in order; a panel without a single value is left out. */
export const PANELS: readonly Panel[] = [
  { title: 'Test accuracy', label: 'accuracy (%)', percent: true, value: (epoch) => epoch.test?.accuracy },
  { title: 'Validation accuracy', label: 'accuracy (%)', percent: true, value: (epoch) => epoch.validation?.accuracy },
  { title: 'Training accuracy', label: 'accuracy (%)', percent: true, value: (epoch) => epoch.train.accuracy },
  { title: 'Test loss', label: 'loss', value: (epoch) => epoch.test?.loss },
  { title: 'Validation loss', label: 'loss', value: (epoch) => epoch.validation?.loss },
  { title: 'Training loss', label: 'loss', value: (epoch) => epoch.train.loss },
  { title: 'Generalization gap', label: 'held-out loss - training loss', value: (epoch) => epoch.generalizationGap },
  { title: 'Step sharpness', label: 'loss(w + eps) - loss(w)', value: (epoch) => epoch.sharpness },
  { title: 'Learning rate', label: 'learning rate', value: (epoch) => epoch.lr },
  { title: 'Throughput', label: 'images per second', value: (epoch) => epoch.imagesPerSecond },
];

const finite = (value: number | null | undefined): value is number =>
  typeof value === 'number' && Number.isFinite(value);

/** Mean over the runs of a group, with the ends of its band. */
export interface Point {
  readonly x: number | string;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** The point of some runs at `x`; without a deviation, the band has no height. */
export const pointAt = (x: number | string, { mean, sd = 0 }: Spread, factor = 1): Point => ({
  ...{ x, mean: factor * mean, low: factor * (mean - sd), high: factor * (mean + sd) },
});

/** Mean and band of a panel's value at each epoch, over the runs that have it. */
export function curveOf(panel: Panel, runs: readonly ReportRun[]): Point[] {
  const values = new Map<number, number[]>();
  for (const epoch of runs.flatMap((run) => run.epochs)) {
    const value = panel.value(epoch);
    if (finite(value)) values.set(epoch.epoch, [...(values.get(epoch.epoch) ?? []), value]);
  }
  const factor = panel.percent === true ? 100 : 1;
  return [...values].sort(([a], [b]) => a - b).map(([epoch, found]) => pointAt(epoch, spread(found), factor));
}

/** Whole epochs to mark on the axis: at most eight, at steps of 1, 2 or 5 times a power of ten. */
function epochTicks(last: number): number[] {
  let step = 1;
  for (let factor = 0; last / step > 8; factor += 1) step = ([1, 2, 5][factor % 3] ?? 1) * 10 ** Math.floor(factor / 3);
  return Array.from({ length: Math.floor(last / step) }, (_, index) => (index + 1) * step);
}

/** Draws one panel, or nothing when no run has its value. `groups` fixes the colours. */
export function drawPanel(panel: Panel, runs: readonly ReportRun[], groups: readonly string[]): Html | undefined {
  const curves = groups.map((group) =>
    curveOf(
      panel,
      runs.filter((run) => run.group === group),
    ),
  );
  const epochs = curves.flat().map(({ x }) => Number(x));
  if (epochs.length === 0) return undefined;
  return drawChart({
    title: panel.title,
    x: { label: 'epoch', tickFormat: 'd', ticks: epochTicks(Math.max(...epochs)) },
    y: { label: panel.label, nice: true },
    marks: curves.flatMap((points, index) => curveMarks(points, index)),
  });
}

/** Colour of a series, and a dash once the colours have run out. */
export const strokeOf = (index: number) => ({
  stroke: `var(--series-${index % SERIES})`,
  ...(index >= SERIES && { strokeDasharray: index >= 2 * SERIES ? '2 3' : '7 3' }),
});

/** Band and mean of one series; a single point is a dot with its deviation. */
export function curveMarks(points: readonly Point[], index: number, dots = false): Plot.Markish[] {
  const { stroke, ...dash } = strokeOf(index);
  const single = points.length === 1;
  const banded = points.some(({ low, high }) => high > low);
  const band = single
    ? Plot.ruleX(points, { x: 'x', y1: 'low', y2: 'high', stroke })
    : Plot.areaY(points, { x: 'x', y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.16 });
  return [
    ...(banded ? [band] : []),
    ...(single ? [] : [Plot.line(points, { x: 'x', y: 'mean', stroke, strokeWidth: 2.25, ...dash })]),
    ...(single || dots ? [Plot.dot(points, { x: 'x', y: 'mean', fill: stroke, r: 3.5 })] : []),
  ];
}

/** What a chart is made of. */
interface Chart {
  readonly title: string;
  readonly x: Plot.ScaleOptions;
  readonly y: Plot.ScaleOptions;
  readonly marks: readonly Plot.Markish[];
  readonly width?: number;
  readonly height?: number;
}

/** Draws marks in the frame that all charts of a page share. */
export function drawChart({ title, x, y, marks, width = 480, height = 280 }: Chart): Html {
  const frame = { marginLeft: 52, marginBottom: 38, marginTop: 26, grid: true, ariaLabel: title };
  return new Html(plotSvg({ ...frame, width, height, x, y, marks: [...marks] }));
}
