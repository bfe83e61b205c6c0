// Options that several commands share: data, model and training, put together from the library's own schemas.
// A flag is flat where the library takes an object (schedule, augmentation, loss); here lie both and the way between them.
import { z } from 'zod';
import { device, dtype, fraction, nonNegative, path, positiveInteger, wholeNumber } from '../options/fields.js';
import { augmentNames, imageFields, loadWeightsSchema, patternsSchema, trainerSchema } from '../options/index.js';
import { UsageError } from './failure.js';
import { optimizerFields } from './optimizers.js';

/** Where a command computes. */
export const computeDevice = device
  .default('cpu')
  .describe('Device to compute on: auto (a GPU where there is one), cpu, cuda or cuda:N');

/** Which images: `--data`, `--data-dir`. */
export const sourceFields = {
  data: z
    .enum(['digits', 'cifar10', 'cifar100', 'mnist', 'fashion-mnist', 'svhn', 'imagefolder', 'webdataset', 'npz'])
    .default('digits')
    .describe('Data set'),
  dataDir: path.optional().describe('Where its files lie; docs/data.md tells for each data set'),
};

/** Which images, and the size that files of any size are brought to. */
export const dataFields = {
  ...sourceFields,
  size: positiveInteger
    .optional()
    .describe("Side of the images of imagefolder and webdataset, in pixels (default: 224, or a trained model's own)"),
  resize: imageFields.resize,
  badImages: imageFields.badImages,
};

type DataFields = z.output<z.ZodObject<typeof dataFields>>;

/** Options that name a data set; commands that know theirs leave out the rest. */
export type DataOptions = Pick<DataFields, 'data'> & Partial<DataFields>;

/** Keeps the entries that are set, so that the library's own defaults hold for the others. */
function set<T extends object>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

const trainer = trainerSchema.shape;

const alpha = z.number().gt(0).optional();

const POLICIES = ['auto-cifar10', 'auto-imagenet', 'auto-svhn', 'rand', 'trivial'] as const;
const AUTO_SETS = { 'auto-cifar10': 'cifar10', 'auto-imagenet': 'imagenet', 'auto-svhn': 'svhn' } as const;

/** What is done to each training image. */
export const imageAugmentFields = {
  augment: z
    .enum(augmentNames)
    .optional()
    .describe(
      'standard: pad 4, random crop, flip; imagenet: random resized crop, flip (default: standard for CIFAR, imagenet for imagefolder and webdataset, none for the others)',
    ),
  policy: z
    .enum(POLICIES)
    .optional()
    .describe('Augmentation policy of the literature, after --augment; auto-*: AutoAugment, found on that data set'),
  policyMagnitude: z.int().min(0).max(30).optional().describe('Magnitude of --policy rand, 0 to 30 (default: 9)'),
  colorJitter: z
    .number()
    .min(0)
    .optional()
    .describe('Brightness, contrast and saturation vary by up to this share of themselves'),
  erasing: fraction.optional().describe('Share of the images of which a random rectangle is blanked'),
  cutout: positiveInteger.optional().describe('Side of a square that is blanked in each image, in pixels'),
};

type ImageAugment = Partial<z.output<z.ZodObject<typeof imageAugmentFields>>>;

const usualAugment = (data: DataOptions['data']) =>
  data.startsWith('cifar') ? 'standard' : data === 'imagefolder' || data === 'webdataset' ? 'imagenet' : 'none';

/** The library's form of {@link imageAugmentFields}. */
export function augmentOptions({ data, ...flags }: { data: DataOptions['data'] } & ImageAugment) {
  const { augment = usualAugment(data), colorJitter: by, erasing: probability, cutout } = flags;
  const moves = { none: {}, standard: { padCrop: 4, flip: true }, imagenet: { resizedCrop: {}, flip: true } };
  return {
    ...moves[augment],
    ...set({
      policy: policyOf(flags),
      colorJitter: by === undefined ? undefined : { brightness: by, contrast: by, saturation: by },
      erasing: probability === undefined ? undefined : { probability },
      cutout,
    }),
  };
}

function policyOf({ policy, policyMagnitude: magnitude }: ImageAugment) {
  if (magnitude !== undefined && policy !== 'rand') throw new UsageError('--policy-magnitude belongs to --policy rand');
  switch (policy) {
    case undefined:
      return undefined;
    case 'rand':
      return { type: 'randAugment' as const, ...set({ magnitude }) };
    case 'trivial':
      return { type: 'trivialAugment' as const };
    default:
      return { type: 'autoAugment' as const, set: AUTO_SETS[policy] };
  }
}

/** How long, in what order and at which learning rate. */
export const trainingFields = {
  epochs: trainer.epochs,
  batchSize: trainer.batchSize,
  seed: trainer.seed,
  schedule: trainer.schedule
    .unwrap()
    .prefault('cosine')
    .describe(`${trainer.schedule.description}, in quotes: '{type: cosine, minFactor: 0.1}'`),
  rhoSchedule: trainer.rhoSchedule,
  momentumSchedule: trainer.momentumSchedule,
  warmupEpochs: nonNegative
    .optional()
    .describe(
      'Epochs over which the learning rate rises linearly (default: a tenth of the run, at most 1, with schedule cosine)',
    ),
  warmupStart: fraction.optional().describe('Share of the learning rate at which the warm-up starts'),
  milestones: z
    .array(wholeNumber)
    .min(1)
    .optional()
    .describe('Epochs at which schedules step and multiStep multiply the learning rate by their gamma'),
  scheduleGamma: nonNegative
    .optional()
    .describe('Multiplier of schedules step and multiStep (default: 0.1), exponential (0.95)'),
  labelSmoothing: fraction.default(0).describe("Label smoothing, PyTorch's form"),
  ...imageAugmentFields,
  mixup: alpha.describe('alpha of mixup: lambda ~ Beta(alpha, alpha)'),
  cutmix: alpha.describe('alpha of cutmix; with mixup, too, each batch gets one of them'),
  progressiveResizing: trainer.progressiveResizing,
  average: trainer.average,
  accumulate: trainer.accumulate,
  trainImages: positiveInteger.optional().describe('Train on the first images only (default: all)'),
  testImages: positiveInteger.optional().describe('Test on the first images only (default: all)'),
  labelNoise: fraction.default(0).describe('Share of the training labels replaced by another class'),
  validation: fraction.default(0).describe('Share of the training images held out, to choose the best checkpoint'),
  maxSteps: trainer.maxSteps,
  threads: trainer.threads,
  loaderThreads: trainer.loaderThreads,
};

/** Which state dict of a file, and which of its names. */
export const withinFields = {
  key: loadWeightsSchema.shape.key,
  prefix: loadWeightsSchema.shape.prefix,
};

/** Weights to start from, and what of them stays. */
const startFields = {
  weights: path
    .optional()
    .describe(
      'Start from these weights: a run or checkpoint folder, a .safetensors, .pt or .pth file; what has another shape starts anew',
    ),
  ...withinFields,
  freeze: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(`${patternsSchema.description}; they stay as they are ('*.running_*': batch norms as in evaluation)`),
};

/** Everything that decides what a training run computes. */
export const runFields = {
  model: z
    .string()
    .optional()
    .describe('Name of the model (default: demo for digits and MNIST, resnet20 for the others)'),
  ...dataFields,
  ...startFields,
  ...optimizerFields,
  ...trainingFields,
  dtype,
  device: computeDevice,
  test: z.boolean().default(true).describe('Evaluate the test split after each epoch'),
};

/** The options of one training run, all settled. */
export const runSchema = z.strictObject(runFields);
export type RunOptions = z.output<typeof runSchema>;

const trainingSchema = z.strictObject({ ...dataFields, ...trainingFields });

/** The Trainer's form of the flat options. */
export function trainerOptions(options: z.output<typeof trainingSchema>) {
  const { epochs, batchSize, seed, maxSteps, threads, loaderThreads, labelSmoothing } = options;
  const { rhoSchedule, momentumSchedule, mixup, cutmix, average, accumulate, progressiveResizing } = options;
  const augment = { ...augmentOptions(options), ...set({ mixup, cutmix }) };
  return {
    ...{ epochs, batchSize, seed, augment, schedule: scheduleOf(options) },
    loss: { type: 'crossEntropy' as const, labelSmoothing },
    ...set({
      maxSteps,
      threads,
      loaderThreads,
      rhoSchedule,
      momentumSchedule,
      average,
      accumulate,
      progressiveResizing,
    }),
  };
}

/** A large first step at the full learning rate can throw a net far off, and short runs do not recover from it. */
function warmupOf({ schedule, epochs }: z.output<typeof trainingSchema>): number | undefined {
  const unset = schedule.type === 'cosine' && schedule.warmupEpochs === 0;
  return unset ? Math.min(1, epochs / 10) : undefined;
}

/** The schedule with what flags of their own say of it. */
function scheduleOf(options: z.output<typeof trainingSchema>) {
  const { schedule, warmupStart, milestones, scheduleGamma: gamma } = options;
  const { warmupEpochs = warmupOf(options) } = options;
  const own = set({ warmupEpochs, warmupStart, milestones, gamma });
  const misplaced = Object.keys(own).find((key) => !(key in schedule));
  if (misplaced !== undefined)
    throw new UsageError(
      `option '${misplaced === 'gamma' ? 'scheduleGamma' : misplaced}' does not apply to schedule '${schedule.type}'`,
    );
  const all = { ...schedule, ...own };
  if ('milestones' in all && all.milestones.length === 0 && !('stepSize' in all && all.stepSize !== null))
    throw new UsageError(`--schedule ${all.type} needs --milestones, such as --milestones 100,150`);
  return all;
}
