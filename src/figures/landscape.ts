// Pictures of what `flatmin landscape` computes from trained nets: the loss between two of them, around one, and below the
// path of a run. The loss is drawn on a logarithmic scale, since around a minimum it spans orders of magnitude.
import * as Plot from '@observablehq/plot';
import type { Line, Surface, Trajectory } from '../analysis/index.js';
import type { Drawing, LegendItem } from './figure.js';
import { colours, contours, dots, path } from './style.js';

/** What `flatmin landscape` computes, under the name of its kind. */
export type Landscape =
  | ({ kind: 'surface' } & Surface)
  | ({ kind: 'interpolation' } & Line)
  | ({ kind: 'trajectory' } & Trajectory);

/** Draws a landscape. */
export function drawLandscape(landscape: Landscape): Drawing {
  if (landscape.kind === 'interpolation') return drawLine(landscape);
  return landscape.kind === 'surface' ? drawSurface(landscape) : drawTrajectory(landscape);
}

function drawLine({ t, loss, accuracy, count }: Line): Drawing {
  const curve = (values: readonly (number | null)[], stroke: string) => [
    Plot.ruleX([0, 1], { stroke: colours.muted, strokeDasharray: '4 4' }),
    Plot.line(values as number[], { x: t, y: (value: number | null) => value ?? Number.NaN, stroke, strokeWidth: 2.6 }),
  ];
  const size = { width: 480, height: 340, grid: true, x: { label: 't' } };
  return {
    title: 'Loss on the line between two nets',
    caption: `At (1 - t) a + t b for the weights and running statistics of two nets: a at t = 0, b at t = 1. ${count} images.`,
    legend: [
      { label: 'loss', colour: colours.sam },
      { label: 'accuracy', colour: colours.asam },
    ],
    panels: [
      {
        title: 'loss',
        plot: { ...size, y: { label: 'loss', zero: true, nice: true }, marks: curve(loss, colours.sam) },
      },
      {
        title: 'accuracy',
        plot: {
          ...{ ...size, y: { label: 'accuracy (%)', nice: true } },
          marks: curve(
            accuracy.map((value) => 100 * value),
            colours.asam,
          ),
        },
      },
    ],
  };
}

const LEVELS = 16;

/** Levels at equal distances on a logarithmic scale, and the colours of the loss between them. */
function scaleOf({ loss }: Pick<Surface, 'loss'>) {
  const known = loss.flat().filter((value) => value !== null && value > 0) as number[];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const levels = Array.from({ length: LEVELS }, (_, index) => low * (high / low) ** ((index + 1) / LEVELS));
  const color = { type: 'log', domain: [low, high], range: ['#f3f5f8', '#8d97a6'], clamp: true } as const;
  return { low, high, levels, color };
}

/** Cell of an axis with equal steps in which a value lies, and how far into it. */
function cell(axis: readonly number[], value: number): [index: number, share: number] {
  const [first = 0, last = 1] = [axis[0], axis.at(-1)];
  const at = ((value - first) / (last - first)) * (axis.length - 1);
  const index = Math.min(Math.max(Math.floor(at), 0), axis.length - 2);
  return [index, at - index];
}

/** The loss between grid points, bilinear in its logarithm; NaN beside one that was not finite. */
function between({ x, y, loss }: Surface): (x: number, y: number) => number {
  const at = (row: number, column: number) => Math.log(loss[row]?.[column] ?? Number.NaN);
  const mix = (low: number, high: number, share: number) => low + share * (high - low);
  return (u, v) => {
    const [column, across] = cell(x, u);
    const [row, up] = cell(y, v);
    const edge = (each: number) => mix(at(each, column), at(each, column + 1), across);
    return Math.exp(mix(edge(row), edge(row + 1), up));
  };
}

const contourMarks = (surface: Surface): Plot.Markish =>
  contours(between(surface), { x: bounds(surface.x), y: bounds(surface.y) }, scaleOf(surface).levels);

const bounds = (axis: readonly number[]): [number, number] => [axis[0] ?? 0, axis.at(-1) ?? 1];
const show = (value: number) => value.toPrecision(3);

function drawSurface(landscape: Surface): Drawing {
  const { x, y, count } = landscape;
  const { low, high, color } = scaleOf(landscape);
  return {
    title: 'Loss around a net',
    caption: `Over two random directions, each filter of which has the norm of the net's filter, which is in the middle. Loss ${show(low)} to ${show(high)}, levels equally far apart on a logarithmic scale; ${count} images.`,
    legend: [{ label: 'the net', colour: colours.asam, dot: true }],
    panels: [
      {
        title: 'loss',
        plot: {
          ...{ width: 560, height: 540, color, x: { domain: bounds(x), label: 'first direction' } },
          y: { domain: bounds(y), label: 'second direction' },
          marks: [contourMarks(landscape), dots([[0, 0]], { fill: colours.asam, r: 4.5 })],
        },
      },
    ],
  };
}

function drawTrajectory({ path: points, explained, surface: below }: Trajectory): Drawing {
  const [first, second] = explained.map((share) => `${(100 * share).toFixed(1)} %`);
  const legend: LegendItem[] = [
    { label: 'path of the run, a point a checkpoint', colour: colours.asam },
    { label: 'end', colour: colours.sam, dot: true },
  ];
  const axes = below ? { x: { domain: bounds(below.x) }, y: { domain: bounds(below.y) } } : { x: {}, y: {} };
  return {
    title: 'The path of a run in its principal plane',
    caption: `The plane through the end of the run that shows most of its path: its axes explain ${first} and ${second} of the variance.${below ? ` Levels of the loss are equally far apart on a logarithmic scale; ${below.count} images.` : ''}`,
    legend,
    panels: [
      {
        title: below ? 'loss below the path' : 'path',
        plot: {
          ...{ width: 640, height: 520, ...(below && { color: scaleOf(below).color }) },
          x: { ...axes.x, label: `first component (${first})` },
          y: { ...axes.y, label: `second component (${second})` },
          marks: [
            ...(below ? [contourMarks(below)] : []),
            path(points, { stroke: colours.asam, strokeWidth: 2.2 }),
            dots(points, { fill: '#ffffff', stroke: colours.asam, strokeWidth: 1.6, r: 3 }),
            dots(points.slice(-1), { fill: colours.sam, r: 5 }),
          ],
        },
      },
    ],
  };
}
