// The curves of a report as inline SVG, drawn by Observable Plot on a document that lives in memory.
// Colours are CSS variables of the page, so that one drawing serves light and dark.
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { Html } from './escape.js';
import type { ReportEpoch, ReportRun } from './types.js';

/** A curve: what is read from an epoch, and how its panel is named. */
export interface Panel {
  readonly title: string;
  readonly label: string;
  readonly percent?: boolean;
  readonly value: (epoch: ReportEpoch) => number | null | undefined;
}

interface Point {
  readonly epoch: number;
  readonly value: number;
  readonly group: string;
  readonly run: string;
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
];

const finite = (value: number | null | undefined): value is number =>
  typeof value === 'number' && Number.isFinite(value);

/** All finite values of a panel over the runs. */
export function pointsOf(panel: Panel, runs: readonly ReportRun[]): Point[] {
  return runs.flatMap((run) =>
    run.epochs.flatMap((epoch) => {
      const value = panel.value(epoch);
      if (!finite(value)) return [];
      return [
        {
          epoch: epoch.epoch,
          value: panel.percent === true ? value * 100 : value,
          group: run.group,
          run: `${run.group}, seed ${run.seed}`,
        },
      ];
    }),
  );
}

/** Mean over the runs of each group at each epoch. */
function means(points: readonly Point[]): Point[] {
  const sums = new Map<string, { point: Point; sum: number; count: number }>();
  for (const point of points) {
    const key = `${point.epoch} ${point.group}`;
    const entry = sums.get(key) ?? { point, sum: 0, count: 0 };
    sums.set(key, { point, sum: entry.sum + point.value, count: entry.count + 1 });
  }
  return [...sums.values()].map(({ point, sum, count }) => ({
    ...point,
    run: `${point.group}, mean`,
    value: sum / count,
  }));
}

/** Whole epochs to mark on the axis: at most eight, at steps of 1, 2 or 5 times a power of ten. */
function epochTicks(last: number): number[] {
  let step = 1;
  for (let factor = 0; last / step > 8; factor += 1) step = ([1, 2, 5][factor % 3] ?? 1) * 10 ** Math.floor(factor / 3);
  return Array.from({ length: Math.floor(last / step) }, (_, index) => (index + 1) * step);
}

/** Draws one panel, or nothing when no run has its value. `groups` fixes the colours. */
export function drawPanel(panel: Panel, runs: readonly ReportRun[], groups: readonly string[]): Html | undefined {
  const points = pointsOf(panel, runs);
  if (points.length === 0) return undefined;
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const single = new Set(points.map((point) => point.epoch)).size === 1;
  const mean = means(points);
  const several = mean.length < points.length;
  const x = { x: 'epoch', y: 'value', stroke: 'group' } as const;
  const figure = Plot.plot({
    document,
    width: 480,
    height: 280,
    marginLeft: 52,
    marginBottom: 38,
    grid: true,
    ariaLabel: panel.title,
    x: { label: 'epoch', tickFormat: 'd', ticks: epochTicks(Math.max(...points.map((point) => point.epoch))) },
    y: { label: panel.label, nice: true },
    color: { domain: [...groups], range: groups.map((_, index) => `var(--series-${index % SERIES})`) },
    marks: single
      ? [Plot.dot(points, { ...x, r: 4 })]
      : [
          Plot.line(points, { ...x, z: 'run', strokeWidth: several ? 1 : 2, strokeOpacity: several ? 0.35 : 1 }),
          ...(several ? [Plot.line(mean, { ...x, z: 'group', strokeWidth: 2.5 })] : []),
        ],
  });
  figure.setAttribute('role', 'img');
  return new Html(figure.outerHTML);
}

/** Number of distinct colours in the page's style sheet. */
export const SERIES = 8;
