// What a study trains: a net for each point of a grid and each seed, with the folder that its record lies in.
import { join } from 'node:path';
import { z } from 'zod';
import { nonNegative, path, positiveInteger, wholeNumber } from '../../options/fields.js';
import { sgdSchema, sharpnessSchema } from '../../options/index.js';
import { UsageError } from '../failure.js';
import { dataFields } from '../fields.js';

const positive = z.number().gt(0);
const some = <T extends z.ZodType>(value: T) => z.array(value).min(1);

/** The hyper-parameters that a study varies. */
export const AXES = ['batchSize', 'lr', 'weightDecay', 'dropout'] as const;
export type Axis = (typeof AXES)[number];

export const studySchema = z.strictObject({
  net: z
    .enum(['plain', 'batchNorm'])
    .default('plain')
    .describe('Small convolutional net, without or with batch norm, dropout before both linear layers'),
  channels: positiveInteger.default(16).describe('Channels of its first convolution; the second has twice as many'),
  ...dataFields,
  trainImages: positiveInteger.default(400).describe('Images that are trained on'),
  testImages: positiveInteger.optional().describe('Test on the first images only (default: all others)'),
  batchSize: some(positiveInteger).default([16, 32, 64]).describe('Batch sizes of the grid'),
  lr: some(positive).default([0.005, 0.01, 0.02]).describe('Learning rates of the grid, constant in training'),
  weightDecay: some(nonNegative).default([0, 0.001, 0.003]).describe('Weight decays of the grid'),
  dropout: some(z.number().min(0).lt(1)).default([0, 0.25, 0.5]).describe('Dropout probabilities of the grid'),
  momentum: sgdSchema.shape.momentum.default(0.9),
  seeds: positiveInteger.default(1).describe('Nets of each point of the grid'),
  firstSeed: wholeNumber.default(1).describe('First of the seeds'),
  targetLoss: positive
    .default(0.01)
    .describe('Training ends with the epoch after which the training loss, in evaluation mode, is at most that'),
  epochs: positiveInteger.default(500).describe('Epochs after which a net counts as not converged'),
  rho: positive.default(0.2).describe('Radius of plain sharpness'),
  adaptiveRho: positive.default(0.5).describe('Radius of adaptive sharpness (|w| on every parameter, eta 0)'),
  steps: sharpnessSchema.shape.steps,
  restarts: sharpnessSchema.shape.restarts,
  resamples: positiveInteger.default(2000).describe('Bootstrap samples of the intervals'),
  jobs: positiveInteger.optional().describe('Processes (default: one a core)'),
  out: path.optional().describe('Folder of nets and results (default: runs/study-<data>-<net>)'),
});

export type StudyOptions = z.output<typeof studySchema>;

/** A point of the grid. */
export type Point = Readonly<Record<Axis, number>>;

/** One net of a study. */
export interface PlannedNet {
  readonly point: Point;
  readonly seed: number;
  readonly folder: string;
}

/** Options that change what a net is or how it is measured; the others say which nets there are, or how fast. */
const OF_EVERY_NET = [
  ...['net', 'channels', 'data', 'trainImages', 'testImages', 'momentum', 'targetLoss', 'epochs'],
  ...['rho', 'adaptiveRho', 'steps', 'restarts'],
] as const;

/** What must be the same for two nets to belong to one study. */
export const sharedSettings = (options: StudyOptions): Readonly<Record<string, unknown>> =>
  Object.fromEntries(OF_EVERY_NET.map((key) => [key, options[key as keyof StudyOptions] ?? null]));

/** Where a study lies. */
export const studyFolder = ({ out, data, net }: StudyOptions) => out ?? join('runs', `study-${data}-${net}`);

/** Plans the nets, seed by seed, so that a study that is cut short covers the grid. */
export function planStudy(options: StudyOptions): PlannedNet[] {
  for (const axis of AXES)
    if (new Set(options[axis]).size !== options[axis].length)
      throw new UsageError(`${axis}: found ${options[axis].join(', ')}, expected different values`);
  let points: Record<string, number>[] = [{}];
  for (const axis of AXES)
    points = points.flatMap((point) => options[axis].map((value) => ({ ...point, [axis]: value })));
  if (points.length < 3)
    throw new UsageError(`a grid of ${points.length} points cannot be ranked; give more values of ${AXES.join(', ')}`);
  const seeds = Array.from({ length: options.seeds }, (_, index) => options.firstSeed + index);
  return seeds.flatMap((seed) =>
    (points as unknown as Point[]).map((point) => ({
      ...{ point, seed },
      folder: join(studyFolder(options), 'nets', nameOf(point), `seed-${seed}`),
    })),
  );
}

/** `batchSize=16-lr=0.01-...`. */
export const nameOf = (point: Point) => AXES.map((axis) => `${axis}=${point[axis]}`).join('-');
