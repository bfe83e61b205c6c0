// Reads the golden files and sets up flatmin the way their cases were run: net, starting weights, batches and optimizer.
// What the keys of a case mean stands in README.md.

import { readFileSync } from 'node:fs';
import {
  Adam,
  AdamW,
  ASAM,
  type ASAMOptions,
  type Batch,
  ESAM,
  Extragradient,
  FSAM,
  GRST,
  GSAM,
  LookSAM,
  layers,
  Model,
  MSAM,
  models,
  RST,
  SAM,
  SAMON,
  type SAMOptions,
  SGD,
  type SharpnessAware,
  Tensor,
  WSAM,
} from '../../src/index.js';
import * as formula from './formula.js';

/** What a golden file keeps of a tensor: all values, or a summary of a large one. */
export type Kept = number[] | formula.Summary;

export interface GoldenStep {
  loss: number;
  gradientNorm: number;
  perturbedLoss?: number;
}

type BaseOptions = { type: 'sgd' | 'adam' | 'adamw' } & Record<string, unknown>;
type Sharpness = { rho: number } & (
  | { method: 'SAM'; preset: NonNullable<SAMOptions['preset']> }
  | { method: 'ASAM'; preset: NonNullable<ASAMOptions['preset']>; scale: 'element' | 'filter' }
);

export interface GoldenCase {
  start: 'plain' | 'confident';
  base: BaseOptions;
  sharpness: Sharpness | null;
  steps: GoldenStep[];
  perturbedGradient?: Record<string, Kept>;
  parameters: Record<string, Kept>;
  statistics: Record<string, Kept>;
  batchesTracked: number;
  evalLogits: number[];
}

/** What every golden file says of its net. */
interface GoldenSetup {
  shape: number[];
  numClasses: number;
  formula: Record<string, number[]>;
}

export interface GoldenFile extends GoldenSetup {
  initial: {
    evalLogits: number[];
    trainLogits: number[];
    loss: number;
    gradientNorm: number;
    gradient: Record<string, Kept>;
  };
  cases: Record<string, GoldenCase>;
}

export type Precision = 'float32' | 'float64';

/** One of the nets, with its golden file. */
export class GoldenNet<File extends GoldenSetup = GoldenSetup> {
  readonly golden: File;
  readonly #create: (dtype: Precision) => Model;

  constructor(file: string, create: (dtype: Precision) => Model) {
    this.golden = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as File;
    this.#create = create;
  }

  /** The net with the weights of the formula. */
  async model(dtype: Precision, start: GoldenCase['start'] = 'plain'): Promise<Model> {
    const model = this.#create(dtype);
    const state = Object.entries(await model.stateDict()).filter(([name]) => !name.endsWith('num_batches_tracked'));
    const started = state.map(([name, { shape }]) => {
      const values = formula.tensorValue(name, shape);
      if (start === 'confident' && name === 'linear.bias') values[0] = (values[0] as number) + 13;
      return [name, Tensor.from(values, shape, { dtype })];
    });
    await model.loadStateDict(Object.fromEntries(started));
    return model;
  }

  /** The batch of a step. */
  batch(step: number, dtype: Precision, start: GoldenCase['start'] = 'plain'): Batch {
    const { shape, numClasses } = this.golden;
    const size = shape[0] as number;
    const labels = start === 'confident' ? new Array<number>(size).fill(0) : formula.labels(step, size, numClasses);
    return { images: Tensor.from(formula.images(step, shape), shape, { dtype }), labels };
  }
}

const smallLayers = [
  layers.conv2d(6, 3, { name: 'conv1', padding: 1, bias: false }),
  layers.batchNorm2d({ name: 'bn1' }),
  layers.relu(),
  layers.conv2d(8, 3, { name: 'conv2', stride: 2, padding: 1 }),
  layers.batchNorm2d({ name: 'bn2' }),
  layers.relu(),
  layers.globalAvgPool2d(),
  layers.flatten(),
  layers.linear(5, { name: 'linear' }),
];

const plainLayers = [
  layers.conv2d(6, 3, { name: 'conv1', padding: 1 }),
  layers.relu(),
  layers.conv2d(8, 3, { name: 'conv2', stride: 2, padding: 1 }),
  layers.relu(),
  layers.globalAvgPool2d(),
  layers.flatten(),
  layers.linear(5, { name: 'linear' }),
];

const smallNet = (dtype: Precision): Model => Model.sequential(smallLayers, { inputShape: [3, 8, 8], dtype });
const plainNet = (dtype: Precision): Model => Model.sequential(plainLayers, { inputShape: [3, 8, 8], dtype });
const resnet20 = (dtype: Precision): Model => models.resnet20({ dtype });

export const nets = {
  'small net': new GoldenNet<GoldenFile>('small-net.json', smallNet),
  'ResNet-20': new GoldenNet<GoldenFile>('resnet20.json', resnet20),
};

/** One run of a published implementation or of a variant's formula. */
export interface OptimizerCase extends Omit<GoldenCase, 'start' | 'sharpness' | 'steps' | 'evalLogits'> {
  method: keyof typeof methods;
  options: Record<string, unknown>;
  groups?: Record<string, unknown>[];
  /** Samples of each micro-batch whose gradients add up. */
  accumulate?: number;
  /** Whether each step's coin said SAM. */
  coins?: boolean[];
  steps: { loss: number | null; perturbedLoss?: number | null }[];
  evalLogits: Kept;
}

interface OptimizerFile extends GoldenSetup {
  cases: Record<string, OptimizerCase>;
}

/** Nets trained by the published implementations. */
export const presetNets = {
  'small net': new GoldenNet<OptimizerFile>('presets-small-net.json', smallNet),
  'plain net': new GoldenNet<OptimizerFile>('presets-plain-net.json', plainNet),
  'ResNet-20': new GoldenNet<OptimizerFile>('presets-resnet20.json', resnet20),
};

/** The small net trained by every variant. */
export const variantNet = new GoldenNet<OptimizerFile>('variants.json', smallNet);

/** The base optimizer of a case. */
export function baseOptimizer(model: Model, { type, ...options }: BaseOptions): SGD | Adam | AdamW {
  if (type === 'sgd') return new SGD(model, options);
  return type === 'adam' ? new Adam(model, options) : new AdamW(model, options);
}

/** The sharpness-aware optimizer of a case. All but rho and the scale come from the preset, so presets are checked, too. */
export function sharpnessAware(model: Model, base: BaseOptions, sharpness: Sharpness): SAM | ASAM {
  const inner = baseOptimizer(model, base);
  const { rho } = sharpness;
  if (sharpness.method === 'SAM') return new SAM(inner, { preset: sharpness.preset, rho });
  return new ASAM(inner, { preset: sharpness.preset, rho, scale: sharpness.scale });
}

const methods = { SAM, ASAM, GSAM, LookSAM, ESAM, RST, GRST, WSAM, FSAM, MSAM, SAMON, Extragradient };

/** The optimizer of a preset's or a variant's case. */
export function optimizerOf(model: Model, { base, groups, method, options }: OptimizerCase): SharpnessAware {
  const inner = baseOptimizer(model, groups ? { ...base, groups } : base);
  return new methods[method](inner, options);
}

/** The gradients of all parameters that `names` tells, as the golden file keeps them. */
export async function gradients(model: Model, names: Record<string, Kept>): Promise<Record<string, Kept>> {
  const entries = Object.keys(names).map(async (name) => [name, model.gradient(name)] as const);
  const tensors = (await Promise.all(entries)).map(([name, gradient]) => {
    if (gradient === null) throw new Error(`${name} has no gradient`);
    return [name, gradient] as const;
  });
  return keep(Object.fromEntries(tensors), names);
}

/** Tensors reduced to what the golden file keeps of them. */
export async function keep(
  tensors: Record<string, Tensor>,
  golden: Record<string, Kept>,
): Promise<Record<string, Kept>> {
  const kept: Record<string, Kept> = {};
  for (const [name, expected] of Object.entries(golden)) {
    const values = (await tensors[name]?.data()) as Float64Array | Float32Array | undefined;
    if (values === undefined) throw new Error(`the model has no '${name}'`);
    kept[name] = Array.isArray(expected) ? Array.from(values) : formula.summary(name, values);
  }
  return kept;
}

/** The numbers of what is kept, in one list. */
export function numbers(kept: Kept): number[] {
  return Array.isArray(kept) ? kept : [kept.rms, kept.mean, ...kept.projections, ...kept.elements];
}
