// Options that several commands share: data, model, optimizer and training, put together from the library's own schemas.
// A flag is flat where the library takes an object (schedule, augmentation, loss); here lie both and the way between them.
import { z } from 'zod';
import { Adam, AdamW, ASAM, type Model, type Optimizer, SAM, SGD } from '../index.js';
import { fraction, nonNegative, path, wholeNumber } from '../options/fields.js';
import { adamSchema, asamSchema, sgdSchema, trainerSchema } from '../options/index.js';
import { asamPresets, samPresets } from '../options/presets.js';
import { UsageError } from './failure.js';

const withDefault = <S extends z.ZodType>(schema: S, value: z.input<S>) => schema.default(value as never);

/** Which images: `--data`, `--data-dir`. */
export const dataFields = {
  data: z.enum(['digits', 'cifar10', 'cifar100']).default('digits').describe('Data set'),
  dataDir: path.optional().describe('Folder of the CIFAR binary files'),
};

const sgd = sgdSchema.shape;
const asam = asamSchema.shape;
const presetNames = [...new Set([...Object.keys(asamPresets), ...Object.keys(samPresets)])] as [string, ...string[]];

/** Which optimizer and its settings. Left out, each rule of SAM and ASAM is the preset's. */
export const optimizerFields = {
  optimizer: z.enum(['sgd', 'adam', 'adamw', 'sam', 'asam']).default('asam').describe('Optimizer'),
  base: z.enum(['sgd', 'adam', 'adamw']).default('sgd').describe('Base optimizer of sam and asam'),
  lr: nonNegative.optional().describe('Learning rate (default: 0.1; adam and adamw: 0.001)'),
  momentum: withDefault(sgd.momentum, 0.9),
  dampening: sgd.dampening,
  nesterov: sgd.nesterov,
  weightDecay: nonNegative.optional().describe('Weight decay (default: 5e-4; adam: 0; adamw, decoupled: 0.01)'),
  betas: adamSchema.shape.betas,
  preset: z.enum(presetNames).default('paper').describe('Rules of a published implementation, for sam and asam'),
  rho: z
    .number()
    .min(0)
    .optional()
    .describe("Radius of sam and asam (default: the preset's; paper: 0.05 for sam, 0.5 for asam)"),
  eta: asam.eta,
  scale: asam.scale,
  adaptive: asam.adaptive,
  guard: asam.guard,
  batchNorm: asam.batchNorm,
  restore: asam.restore,
};

const optimizerSchema = z.strictObject(optimizerFields);
type OptimizerOptions = z.output<typeof optimizerSchema>;

const ONLY_ASAM = ['eta', 'scale', 'adaptive'] as const;
const ONLY_SHARPNESS = ['rho', 'guard', 'batchNorm', 'restore'] as const;

/** Keeps the entries that are set, so that the library's own defaults hold for the others. */
function set<T extends object>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** How to make the optimizer that the options ask for. Options that it does not have are an error at once, not ignored. */
export function planOptimizer(options: OptimizerOptions): (model: Model) => Optimizer {
  const { optimizer } = options;
  const misplaced = [
    ...(optimizer === 'asam' ? [] : ONLY_ASAM),
    ...(optimizer === 'asam' || optimizer === 'sam' ? [] : ONLY_SHARPNESS),
  ].filter((key) => options[key] !== undefined);
  if (misplaced.length > 0) throw new UsageError(`option '${misplaced[0]}' does not apply to optimizer '${optimizer}'`);
  const { preset, rho, guard, batchNorm, restore, eta, scale, adaptive } = options;
  const rules = set({ preset, rho, guard, batchNorm, restore });
  // The preset's name is checked by the wrapper itself: SAM knows fewer of them than ASAM.
  const asamRules = { ...rules, ...set({ eta, scale, adaptive }) };
  return (model) => {
    if (optimizer !== 'sam' && optimizer !== 'asam') return makeBase(model, optimizer, options);
    const base = makeBase(model, options.base, options);
    return optimizer === 'sam' ? new SAM(base, rules as object) : new ASAM(base, asamRules as object);
  };
}

function makeBase(model: Model, name: OptimizerOptions['base'], options: OptimizerOptions): Optimizer {
  const { lr, momentum, dampening, nesterov, betas, weightDecay } = options;
  if (name === 'sgd')
    return new SGD(model, { lr: lr ?? 0.1, momentum, dampening, nesterov, weightDecay: weightDecay ?? 5e-4 });
  const rates = { betas, ...set({ lr, weightDecay }) };
  return name === 'adam' ? new Adam(model, rates) : new AdamW(model, rates);
}

const trainer = trainerSchema.shape;

/** How long, in what order and at which learning rate. */
export const trainingFields = {
  epochs: trainer.epochs,
  batchSize: trainer.batchSize,
  seed: trainer.seed,
  schedule: z.enum(['cosine', 'constant', 'step']).default('cosine').describe('Learning-rate schedule'),
  warmupEpochs: nonNegative.default(0).describe('Epochs over which the learning rate rises linearly'),
  milestones: z
    .array(wholeNumber)
    .min(1)
    .optional()
    .describe('Epochs at which schedule step multiplies the learning rate by gamma'),
  gamma: nonNegative.optional().describe('Multiplier of schedule step (default: 0.1)'),
  labelSmoothing: fraction.default(0).describe("Label smoothing, PyTorch's form"),
  augment: z
    .enum(['none', 'standard'])
    .optional()
    .describe('standard: pad 4, random crop, flip (default: standard for CIFAR, none for digits)'),
  labelNoise: fraction.default(0).describe('Share of the training labels replaced by another class'),
  validation: fraction.default(0).describe('Share of the training images held out, to choose the best checkpoint'),
  maxSteps: trainer.maxSteps,
  threads: trainer.threads,
  loaderThreads: trainer.loaderThreads,
};

const trainingSchema = z.strictObject({ ...dataFields, ...trainingFields });

/** The Trainer's form of the flat options. */
export function trainerOptions(options: z.output<typeof trainingSchema>) {
  const { epochs, batchSize, seed, maxSteps, threads, loaderThreads, labelSmoothing } = options;
  const augment = options.augment ?? (options.data === 'digits' ? 'none' : 'standard');
  return {
    ...{ epochs, batchSize, seed, loaderThreads, augment, schedule: scheduleOf(options) },
    loss: { type: 'crossEntropy' as const, labelSmoothing },
    ...set({ maxSteps, threads }),
  };
}

function scheduleOf(options: z.output<typeof trainingSchema>) {
  const { schedule: type, warmupEpochs, milestones, gamma } = options;
  if (type !== 'step') {
    if (milestones !== undefined || gamma !== undefined)
      throw new UsageError(`options 'milestones' and 'gamma' need --schedule step`);
    return { type, warmupEpochs };
  }
  if (milestones === undefined)
    throw new UsageError('--schedule step needs --milestones, such as --milestones 100,150');
  return { type, warmupEpochs, milestones, ...set({ gamma }) };
}
