// Options of models and the spec language of their layers, as `Model.sequential` and a saved model's metadata use it: the
// layers that are made of layers stand here, the others in layers.ts.

import { z } from 'zod';
import { classNames, device, dtype, modelDtypes, path, positiveInteger, seed, wholeNumber } from './fields.js';
import { layerName, name, simpleLayerSchema } from './layers.js';
import { lossSchema } from './loss.js';

/** Layers in order, under one name; without layers the identity. */
export interface SequentialLayer {
  type: 'sequential';
  name?: string | undefined;
  layers: Layer[];
}

/** activation(layers(x) + shortcut(x)), x after the shared layers. */
export interface ResidualLayer {
  type: 'residual';
  name?: string | undefined;
  shared?: Layer[] | undefined;
  layers: Layer[];
  shortcut?: Shortcut | undefined;
  shortcutName?: string | undefined;
  activation?: 'relu' | 'none' | undefined;
}

/** x * layers(x); the layers give x's shape or one number for each channel. */
export interface GateLayer {
  type: 'gate';
  name?: string | undefined;
  layers: Layer[];
}

/** What a residual adds to its branch. */
export type Shortcut = 'identity' | 'optionA' | { layers: Layer[] };

/** Branches that read the same input, and how they are merged. */
export interface ParallelLayer<Merge extends string> {
  type: Merge;
  name?: string | undefined;
  branches: Layer[][];
}

/** One layer of the spec language. */
export type Layer =
  | z.input<typeof simpleLayerSchema>
  | SequentialLayer
  | ResidualLayer
  | GateLayer
  | ParallelLayer<'concat'>
  | ParallelLayer<'sum'>
  | ParallelLayer<'shakeShake'>;

/** A list of layers, applied in order. */
type LayerList = z.ZodType<Layer[], Layer[]>;

const sequential = z.strictObject({
  type: z.literal('sequential'),
  name,
  get layers(): LayerList {
    return z.array(layerSchema);
  },
});

const shortcut: z.ZodType<Shortcut, Shortcut> = z.union([
  z.enum(['identity', 'optionA']),
  z.strictObject({
    get layers(): LayerList {
      return layerListSchema;
    },
  }),
]);

const gate = z.strictObject({
  type: z.literal('gate'),
  name,
  get layers(): LayerList {
    return layerListSchema;
  },
});

const residual = z.strictObject({
  type: z.literal('residual'),
  name: layerName
    .or(z.literal(''))
    .optional()
    .describe("Name in the state dict; '' names its layers as if they stood in its place"),
  get shared(): z.ZodOptional<LayerList> {
    return layerListSchema.optional().describe('Layers that run first, for the branch and the shortcut alike');
  },
  get layers(): LayerList {
    return layerListSchema;
  },
  shortcut: shortcut.default('identity'),
  shortcutName: layerName
    .or(z.literal(''))
    .default('shortcut')
    .describe("Name of a shortcut of layers in the state dict; '' puts them beside the branch's layers"),
  activation: z.enum(['relu', 'none']).default('relu').describe('Applied to the sum'),
});

const parallel = <Merge extends string>(merge: Merge) =>
  z.strictObject({
    type: z.literal(merge),
    name,
    get branches(): z.ZodArray<LayerList> {
      return z
        .array(z.array(layerSchema) as LayerList)
        .min(2)
        .describe('Lists of layers that read the same input; an empty one passes it on');
    },
  });

/** One layer of the spec language. */
export const layerSchema: z.ZodType<Layer, Layer> = z.discriminatedUnion('type', [
  simpleLayerSchema,
  sequential,
  residual,
  gate,
  parallel('concat'),
  parallel('sum'),
  parallel('shakeShake'),
]);

/** A list of layers, applied in order. */
export const layerListSchema: LayerList = z.array(layerSchema).min(1);

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

const where = device.optional().describe("Where the model lives (default: what load() was given, else 'cpu')");

const creation = {
  dtype,
  device: where,
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
    .describe("Number of classes (default: the model's own, 10 for CIFAR, 1000 for ImageNet)"),
  inputShape: inputShapeSchema.optional(),
  zeroInitResidual: z
    .boolean()
    .optional()
    .describe(
      'Start the last gain of each residual at 0, and the residual so as its shortcut (nets with a batch norm at the end of residuals)',
    ),
  dropout: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe(
      "Share of the values that dropout sets to zero in training (default: the paper's; models that have dropout)",
    ),
  stochasticDepth: z
    .number()
    .min(0)
    .lt(1)
    .optional()
    .describe(
      "Probability that the last residual is dropped in training, those before it less often (default: the paper's; CIFAR ResNets, EfficientNet, ConvNeXt, ViT)",
    ),
  shakeDrop: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .describe(
      "Probability that ShakeDrop scales the last residual in training, those before it less often (default: the paper's; PyramidNets)",
    ),
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
  device: where,
  classNames: classNames.optional(),
  normalization: normalizationSchema.optional(),
});

/** Options of {@link Model.fromSpec}. */
export const fromSpecSchema = z.strictObject({ dtype, device: where, seed: creation.seed });

/** Options of {@link Model.load}. */
export const loadModelSchema = z.strictObject({
  dtype: z
    .enum(modelDtypes)
    .optional()
    .describe('Number type to compute in (default: the type of the weights in the file)'),
  device: where,
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
