// Options of models and the spec language of their layers, as `Model.sequential` and a saved model's metadata use it.
// Parameter names follow PyTorch: a layer's `name`, or its index in its parent's list, joined by dots.

import { z } from 'zod';
import { classNames, dtype, modelDtypes, nonNegative, path, positiveInteger, seed, wholeNumber } from './fields.js';
import { lossSchema } from './loss.js';

const name = z
  .string()
  .regex(/^[^.\s]+$/, 'a name without dots or spaces')
  .optional()
  .describe("Name in the state dict (default: the layer's index in its list)");
const kernelSize = positiveInteger.describe('Side of the square window, in pixels');
const stride = positiveInteger.describe('Step between windows, in pixels');
const padding = wholeNumber.default(0).describe('Zeros on each side, in pixels');
const bias = z.boolean().default(true).describe('Add a learnt offset to each output');
const init = z
  .enum(['kaimingUniform', 'kaimingNormal'])
  .default('kaimingUniform')
  .describe(
    "Initial weights: PyTorch's default (uniform, bound 1 / sqrt(fan in)), or normal with variance 2 / fan in (He et al. 2015)",
  );

const pooling = { kernelSize, stride: stride.optional(), padding };

const conv2d = z.strictObject({
  type: z.literal('conv2d'),
  name,
  outChannels: positiveInteger.describe('Channels of the output'),
  kernelSize,
  stride: stride.default(1),
  padding,
  groups: positiveInteger.default(1).describe('Groups of channels that do not mix'),
  bias,
  init,
});

const batchNorm2d = z.strictObject({
  type: z.literal('batchNorm2d'),
  name,
  eps: nonNegative.default(1e-5).describe('Added to the variance'),
  momentum: z.number().min(0).max(1).default(0.1).describe('Weight of the newest batch in the running statistics'),
  affine: z.boolean().default(true).describe('Learn a gain and an offset for each channel'),
});

const linear = z.strictObject({
  type: z.literal('linear'),
  name,
  outFeatures: positiveInteger.describe('Size of the output'),
  bias,
  init,
});
const relu = z.strictObject({ type: z.literal('relu'), name });
const maxPool2d = z.strictObject({ type: z.literal('maxPool2d'), ...pooling });
const avgPool2d = z.strictObject({ type: z.literal('avgPool2d'), ...pooling });
const globalAvgPool2d = z.strictObject({ type: z.literal('globalAvgPool2d') });
const flatten = z.strictObject({ type: z.literal('flatten') });
const dropout = z.strictObject({
  type: z.literal('dropout'),
  p: z.number().min(0).lt(1).default(0.5).describe('Share of the values set to zero in training'),
});

const sequential = z.strictObject({
  type: z.literal('sequential'),
  name,
  get layers() {
    return layerListSchema;
  },
});

const residual = z.strictObject({
  type: z.literal('residual'),
  name,
  get layers() {
    return layerListSchema;
  },
  get shortcut() {
    return shortcutSchema.default('identity');
  },
  activation: z.enum(['relu', 'none']).default('relu').describe('Applied to the sum'),
});

/** One layer of the spec language. */
export const layerSchema = z.discriminatedUnion('type', [
  conv2d,
  batchNorm2d,
  linear,
  relu,
  maxPool2d,
  avgPool2d,
  globalAvgPool2d,
  flatten,
  dropout,
  sequential,
  residual,
]);

/** A list of layers, applied in order. */
export const layerListSchema: z.ZodArray<typeof layerSchema> = z.array(layerSchema).min(1);

const shortcutSchema = z.union([
  z.enum(['identity', 'optionA']),
  z.strictObject({ layers: z.array(layerSchema).min(1) }),
]);

/** Shape of one input image: [channels, height, width]. */
export const inputShapeSchema = z
  .tuple([positiveInteger, positiveInteger, positiveInteger])
  .describe('Shape of one image: [channels, height, width]');

/** Mean and standard deviation of each channel, for pixels scaled to [0, 1]. */
export const normalizationSchema = z
  .strictObject({
    mean: z.array(z.number()).min(1).describe('Mean of each channel'),
    std: z.array(z.number().gt(0)).min(1).describe('Standard deviation of each channel'),
  })
  .describe('Normalisation of pixels in [0, 1]: (pixel - mean) / std, by channel');

const creation = {
  dtype,
  seed: seed.describe('Seed of the initial weights'),
  classNames: classNames.optional(),
  normalization: normalizationSchema.optional(),
};

/** Options of {@link Model.sequential}. */
export const sequentialSchema = z.strictObject({
  inputShape: inputShapeSchema,
  numClasses: positiveInteger
    .optional()
    .describe('Number of classes (default: the length of classNames, else the last linear layer)'),
  name: z.string().min(1).default('sequential').describe('Name of the model'),
  ...creation,
});

/** Options of the models of the zoo. */
export const zooSchema = z.strictObject({
  numClasses: positiveInteger
    .optional()
    .describe("Number of classes (default: the model's own, 10 for the CIFAR ResNets)"),
  inputShape: inputShapeSchema.optional(),
  ...creation,
});

/** Options of {@link Model.fromTorchScript}. */
export const torchScriptSchema = z.strictObject({
  inputShape: inputShapeSchema,
  numClasses: positiveInteger.optional().describe('Number of classes (default: what the module answers)'),
  name: z.string().min(1).optional().describe("Name of the model (default: the file's)"),
  dtype: z
    .enum(['float32', 'float64'])
    .default('float32')
    .describe('Number type of parameters and images; a program fixes where it rounds, so bfloat16 is none'),
  classNames: classNames.optional(),
  normalization: normalizationSchema.optional(),
});

/** Options of {@link Model.fromSpec}. */
export const fromSpecSchema = z.strictObject({ dtype, seed: creation.seed });

/** Options of {@link Model.load}. */
export const loadModelSchema = z.strictObject({
  dtype: z
    .enum(modelDtypes)
    .optional()
    .describe('Number type to compute in (default: the type of the weights in the file)'),
});

/** Options of loading a state dict into an existing model. */
export const loadStateDictSchema = z.strictObject({
  strict: z
    .boolean()
    .default(true)
    .describe('Refuse missing and unexpected names and other shapes; otherwise they are reported and passed over'),
  prefix: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Read only names that begin so, without it (default: prefixes of PyTorch's wrappers that all names have)",
    ),
  map: z
    .record(z.string().min(1), z.string().min(1).nullable())
    .optional()
    .describe("New names by old ones, '*' for any characters on both sides; null leaves an entry out"),
});

/** Options of loading weights into an existing model. */
export const loadWeightsSchema = loadStateDictSchema.extend({
  key: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Which entry of a .pt file is the state dict (default: the only one, or state_dict, model_state_dict, model)',
    ),
});

/** Patterns of names in the state dict. */
export const patternsSchema = z
  .union([
    z
      .string()
      .min(1)
      .transform((pattern) => [pattern]),
    z.array(z.string().min(1)).min(1),
  ])
  .describe("Names in the state dict, '*' for any characters: 'layer1.*', '*.running_*'");

/** Options of {@link Model.replace}. */
export const replaceSchema = z.strictObject({ seed: creation.seed });

/** Name of a layer, such as `fc` or `layer4.2.conv1`. */
export const layerNameSchema = z.string().min(1);

/** Options of one backward pass. */
export const backwardSchema = z.strictObject({
  loss: lossSchema,
  seed: wholeNumber.optional().describe('Seed of the dropout masks (default: the same for both passes of a step)'),
});

/** Options of a whole step on one batch. */
export const stepSchema = backwardSchema.extend({
  accumulate: positiveInteger
    .optional()
    .describe('Images of one backward pass: a larger batch is taken in parts, and their gradients add up'),
});

/** Options of {@link Model.forward}. */
export const forwardSchema = z.strictObject({
  train: z.boolean().default(false).describe("Use the batch's own statistics in batch norm, and dropout"),
});

/** Name of a parameter, such as `conv1.weight`. */
export const parameterNameSchema = z.string().min(1);

/** Path of a file to read or write. */
export const filePathSchema = path;

export type Layer = z.input<typeof layerSchema>;
export type Shortcut = z.input<typeof shortcutSchema>;
export type InputShape = z.output<typeof inputShapeSchema>;
export type Normalization = z.output<typeof normalizationSchema>;
export type SequentialOptions = z.input<typeof sequentialSchema>;
export type ZooOptions = z.input<typeof zooSchema>;
export type TorchScriptOptions = z.input<typeof torchScriptSchema>;
export type FromSpecOptions = z.input<typeof fromSpecSchema>;
export type ForwardOptions = z.input<typeof forwardSchema>;
export type LoadModelOptions = z.input<typeof loadModelSchema>;
export type LoadStateDictOptions = z.input<typeof loadStateDictSchema>;
export type ReplaceOptions = z.input<typeof replaceSchema>;
export type LoadWeightsOptions = z.input<typeof loadWeightsSchema>;
export type BackwardOptions = z.input<typeof backwardSchema>;
export type StepOptions = z.input<typeof stepSchema>;
