// Reads the golden files and sets up flatmin the way their cases were run: net, starting weights, batches and optimizer.
// What the keys of a case mean stands in README.md.

import { readFileSync } from 'node:fs';
import {
  Adam,
  AdamW,
  ASAM,
  type ASAMOptions,
  type Batch,
  layers,
  Model,
  models,
  SAM,
  type SAMOptions,
  SGD,
  Tensor,
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

export interface GoldenFile {
  shape: number[];
  numClasses: number;
  formula: Record<string, number[]>;
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
export class GoldenNet {
  readonly golden: GoldenFile;
  readonly #create: (dtype: Precision) => Model;

  constructor(file: string, create: (dtype: Precision) => Model) {
    this.golden = JSON.parse(readFileSync(new URL(file, import.meta.url), 'utf8')) as GoldenFile;
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

export const nets = {
  'small net': new GoldenNet('small-net.json', (dtype) =>
    Model.sequential(smallLayers, { inputShape: [3, 8, 8], dtype }),
  ),
  'ResNet-20': new GoldenNet('resnet20.json', (dtype) => models.resnet20({ dtype })),
};

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
