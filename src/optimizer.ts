// Optimizers: SGD, Adam and AdamW. SAM and ASAM (sharpness-aware.ts) wrap one of them.
// Plain training is `await model.backward(batch); await optimizer.step()`, or `await optimizer.step(batch)` for both.

import { type Batch, withBatch } from './batch.js';
import { call } from './call.js';
import { Engine, type OptimizerConfig } from './engine.js';
import { FlatminError } from './errors.js';
import { type Model, requireModel, stepCounter } from './model.js';
import type { BindingOptimizer } from './native/binding.js';
import type { Clip, Decay, GroupConfig } from './options/groups.js';
import { type StepOptions, stepSchema } from './options/model.js';
import {
  type AdamOptions,
  type AdamWOptions,
  adamSchema,
  adamwSchema,
  type LossScale,
  lossScaleSchema,
  type SGDOptions,
  sgdSchema,
} from './options/optimizer.js';
import { parseOptions, show } from './options/parse.js';
import type { BaseRules, SharpnessRules } from './options/presets.js';
import { ParameterGroup } from './parameter-group.js';

/** The perturbation that a network of 16 bits sees, d, beside the one that was asked for, eps. */
export interface Rounding {
  /** norm(d) / norm(eps), above 1: rounding adds noise. */
  ratio: number;
  /** Cosine of the angle between d and eps. ratio * cosine, d's share along eps, is kept within 1 % of 1. */
  cosine: number;
  /** What eps was multiplied by to that end; 1 when no correction was needed. */
  factor: number;
}

/** What a pass of an optimizer found. */
export interface PassInfo {
  /** 2-norm of the gradient of all parameters; null where this part of the step computes none. */
  gradientNorm: number | null;
  /** False when a gradient was not finite: the step is then left out, and the weights are as before. */
  finite: boolean;
  /** What rounding made of the perturbation; null unless the pass or step perturbed a model that computes in 16 bits. */
  rounding: Rounding | null;
}

/** What a whole step on one batch found. */
export interface StepInfo extends PassInfo {
  /** Mean loss at w. */
  loss: number;
  /** Mean loss at w + eps; null without SAM or ASAM. */
  perturbedLoss: number | null;
  /** perturbedLoss - loss; null without SAM or ASAM. */
  sharpness: number | null;
  /** Images of the batch whose most likely class at w is right. */
  correct: number;
  /** Images of the batch. */
  count: number;
  /** What the loss was multiplied by before backward passes; null if it was not. */
  lossScale: number | null;
}

let engineOf: (optimizer: Optimizer) => Engine;
let wrapperOf: (optimizer: Optimizer) => string | undefined;
let shareEngine: (base: Optimizer, engine: Engine, wrapper: string) => void;

/** What all optimizers have in common. */
export abstract class Optimizer {
  #engine: Engine;
  #wrapper: string | undefined;
  #groups: ParameterGroup[] | undefined;

  /** @internal */
  constructor(engine: Engine) {
    this.#engine = engine;
  }

  static {
    engineOf = (optimizer) => optimizer.#engine;
    wrapperOf = (optimizer) => optimizer.#wrapper;
    shareEngine = (base, engine, wrapper) => {
      base.#engine = engine;
      base.#wrapper = wrapper;
      base.#groups = undefined;
    };
  }

  /** The model that this optimizer trains. */
  get model(): Model {
    return this.#engine.model;
  }

  /** Parameter groups. A base optimizer and its wrapper share them. */
  get groups(): readonly ParameterGroup[] {
    const engine = this.#engine;
    this.#groups ??= Array.from({ length: engine.groupCount }, (_, index) => new ParameterGroup(engine, index));
    return this.#groups;
  }

  /** Steps done. */
  get steps(): number {
    return this.#engine.started ? this.#engine.native.steps : 0;
  }

  /** Steps left out because a gradient was not finite. */
  get skippedSteps(): number {
    return this.#engine.started ? this.#engine.native.skipped : 0;
  }

  /** What the loss of the next step is multiplied by before backward passes; null if it is not scaled. */
  get lossScale(): number | null {
    const engine = this.#engine;
    if (engine.started) return engine.native.lossScale;
    return (
      engine.config.lossScale?.initial ?? (this.model.dtype === 'float16' ? lossScaleSchema.parse({}).initial : null)
    );
  }

  /** A step with the gradients that `model.backward` has left. */
  step(): Promise<PassInfo>;
  /** A whole step on one batch: all passes and the update. */
  step(batch: Batch, options?: StepOptions): Promise<StepInfo>;
  async step(batch?: Batch, options: StepOptions = {}): Promise<PassInfo | StepInfo> {
    const native = this.nativeForStep('step');
    if (batch === undefined) return this.finishStep(native);
    const {
      loss,
      seed = stepCounter(this.model).nextMaskSeed(),
      accumulate,
    } = parseOptions(stepSchema, options, 'optimizer.step');
    const outcome = await withBatch(batch, 'optimizer.step', (images, labels) =>
      call(() => native.step(images, labels, { loss, seed, ...(accumulate !== undefined && { accumulate }) })),
    );
    stepCounter(this.model).nextStep();
    return outcome;
  }

  /** Forgets the gradients that have added up. */
  clearGradients(): void {
    const native = this.nativeForStep('clearGradients');
    call(() => native.clearGradients());
  }

  /** Frees the memory now; a second call does nothing. */
  dispose(): void {
    this.#engine.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }

  /** The update after the last backward pass of a step. */
  protected async finishStep(native: BindingOptimizer): Promise<PassInfo> {
    const outcome = await call(() => native.baseStep());
    stepCounter(this.model).nextStep();
    return outcome;
  }

  /** The native optimizer, unless a wrapper has taken this one over. */
  protected nativeForStep(method: string): BindingOptimizer {
    if (this.#wrapper === undefined) return this.#engine.native;
    const name = this.constructor.name;
    throw new FlatminError(
      'ERR_FLATMIN_STEP_ORDER',
      `${name}.${method}: this ${name} is wrapped by ${this.#wrapper}; call ${method} of the ${this.#wrapper} instead`,
    );
  }
}

/** Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's. */
export class SGD extends Optimizer {
  /** @throws `ERR_FLATMIN_OPTION` */
  constructor(model: Model, options: SGDOptions = {}) {
    super(baseEngine('sgd', model, parseOptions(sgdSchema, options, 'SGD')));
  }
}

/** Adam (Kingma and Ba 2015), as PyTorch's. */
export class Adam extends Optimizer {
  /** @throws `ERR_FLATMIN_OPTION` */
  constructor(model: Model, options: AdamOptions = {}) {
    super(baseEngine('adam', model, parseOptions(adamSchema, options, 'Adam')));
  }
}

/** Adam with decoupled weight decay (Loshchilov and Hutter 2019), as PyTorch's. */
export class AdamW extends Optimizer {
  /** @throws `ERR_FLATMIN_OPTION` */
  constructor(model: Model, options: AdamWOptions = {}) {
    super(baseEngine('adamw', model, parseOptions(adamwSchema, options, 'AdamW')));
  }
}

interface BaseOptions {
  lr: number;
  weightDecay: number;
  decay?: Decay | undefined;
  clip?: Clip | null | undefined;
  lossScale?: LossScale | undefined;
  groups: GroupConfig[];
}

function baseEngine(type: OptimizerConfig['base']['type'], model: unknown, options: BaseOptions): Engine {
  const names = { sgd: 'SGD', adam: 'Adam', adamw: 'AdamW' };
  const { decay, clip, lossScale, groups, ...own } = options;
  const config = { base: { type, ...own }, decay, clip, lossScale, groups, sharpness: null };
  return new Engine(requireModel(model, `${names[type]} model`), config);
}

/** @internal Checks an argument that must be an optimizer in its own right, and gives its engine. */
export function outermostEngine(optimizer: unknown, argument: string): { optimizer: Optimizer; engine: Engine } {
  if (!(optimizer instanceof Optimizer)) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${argument}: found ${show(optimizer)}, expected an optimizer such as new SGD(model)`,
    );
  }
  const wrapper = wrapperOf(optimizer);
  if (wrapper !== undefined) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${argument}: found ${show(optimizer)} that is wrapped by ${wrapper}, expected the ${wrapper}`,
    );
  }
  return { optimizer, engine: engineOf(optimizer) };
}

/** @internal Takes over a base optimizer: both share the engine from now on. */
export function wrap(base: unknown, wrapper: string, sharpness: SharpnessRules, baseRules: BaseRules): Engine {
  const { optimizer, engine } = outermostEngine(base, `${wrapper} base optimizer`);
  if (engine.config.sharpness !== null) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${wrapper}: found ${show(base)} that is sharpness-aware already, expected a plain SGD, Adam or AdamW`,
    );
  }
  if (engine.started) {
    throw new FlatminError(
      'ERR_FLATMIN_STEP_ORDER',
      `${wrapper}: this ${show(base).replace('a ', '')} has made steps already; wrap an optimizer before its first use`,
    );
  }
  const { decay = baseRules.decay, clip = baseRules.clip } = engine.config;
  const shared = new Engine(engine.model, { ...engine.config, decay, clip, sharpness });
  shareEngine(optimizer, shared, wrapper);
  return shared;
}
