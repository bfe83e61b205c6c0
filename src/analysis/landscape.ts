// The loss along a line between two models, over a plane through one, and below the path of a training run.

import type { DatasetSource } from '../dataset.js';
import { FlatminError } from '../errors.js';
import { type Model, nativeModel, requireModel } from '../model.js';
import {
  type InterpolationOptions,
  interpolationSchema,
  type SurfaceOptions,
  surfaceSchema,
  type TrajectoryOptions,
  trajectorySchema,
} from '../options/analysis.js';
import { show } from '../options/parse.js';
import { dataOf, type MeasureControl, measure } from './measure.js';

/** Loss and accuracy along a line. A loss that is not finite is null. */
export interface Line {
  t: number[];
  loss: (number | null)[];
  accuracy: number[];
  /** norm2 of the difference of the weights. */
  distance: number;
  /** Images. */
  count: number;
}

/** Loss and accuracy over a plane, as `[y][x]`. A loss that is not finite is null. */
export interface Surface {
  x: number[];
  y: number[];
  loss: (number | null)[][];
  accuracy: number[][];
  /** Images. */
  count: number;
}

/** The path of a run in its principal plane. */
export interface Trajectory {
  /** Coordinates of each checkpoint, as distances in weight space; the model is at the origin. */
  path: [x: number, y: number][];
  /** Shares of the variance of the path that both axes explain. */
  explained: [number, number];
  surface: Surface | null;
}

/** The loss at (1 - t) a + t b for weights and running statistics of two models of the same layers (Goodfellow 2015). */
export function interpolation(
  model: Model,
  other: Model,
  dataset: DatasetSource,
  options: InterpolationOptions & MeasureControl = {},
): Promise<Line> {
  return measure('interpolation', { model, dataset, options }, interpolationSchema, async (analysis, subject) => {
    const end = nativeModel(requireModel(other, 'analysis.interpolation other'));
    const settings = { t: axisOf(subject.options), data: dataOf(subject.options) };
    return (await analysis.interpolation(subject.model, end, subject.dataset, settings)) as Line;
  });
}

/** The loss over two random directions, each filter of which has the norm of the model's filter (Li 2018, section 4). */
export function surface(
  model: Model,
  dataset: DatasetSource,
  options: SurfaceOptions & MeasureControl = {},
): Promise<Surface> {
  return measure('surface', { model, dataset, options }, surfaceSchema, async (analysis, subject) => {
    const axis = axisOf(subject.options);
    const settings = { x: axis, y: axis, seed: subject.options.seed, data: dataOf(subject.options) };
    return (await analysis.surface(subject.model, subject.dataset, settings)) as Surface;
  });
}

/**
 * The path of the weights in `files`, in the order of training, seen in the plane of its first two principal components through
 * `model`, the run's end (Li 2018, section 7).
 */
export function trajectory(
  model: Model,
  files: readonly string[],
  dataset: DatasetSource,
  options: TrajectoryOptions & MeasureControl = {},
): Promise<Trajectory> {
  return measure('trajectory', { model, dataset, options }, trajectorySchema, async (analysis, subject) => {
    if (!Array.isArray(files) || files.some((file) => typeof file !== 'string' || file === ''))
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `analysis.trajectory files: found ${show(files)}, expected a list of .safetensors files`,
      );
    const { points, margin } = subject.options;
    const settings = { points, margin, data: dataOf(subject.options) };
    return (await analysis.trajectory(subject.model, [...files], subject.dataset, settings)) as Trajectory;
  });
}

const axisOf = ({ range: [from, to], points }: { range: readonly [number, number]; points: number }) => ({
  ...{ from, to, points },
});
