// The layers of the spec language that are not made of layers. Parameter names follow PyTorch: a layer's `name`, or its
// index in its parent's list, joined by dots.

import { z } from 'zod';
import { nonNegative, positiveInteger, wholeNumber } from './fields.js';

/** A part of a dotted name. */
export const layerName = z.string().regex(/^[^.\s]+$/, 'a name without dots or spaces');

/** Name of a layer. */
export const name = layerName.optional().describe("Name in the state dict (default: the layer's index in its list)");
const kernelSize = positiveInteger.describe('Side of the square window, in pixels');
const stride = positiveInteger.describe('Step between windows, in pixels');
const padding = wholeNumber.default(0).describe('Zeros on each side, in pixels');
const bias = z.boolean().default(true).describe('Add a learnt offset to each output');
const init = z
  .enum(['kaimingUniform', 'kaimingNormal', 'kaimingNormalFanOut', 'normal', 'uniformFanOut'])
  .default('kaimingUniform')
  .describe(
    "Initial weights: PyTorch's default (uniform, bound 1 / sqrt(fan in)); normal with variance 2 / fan in or 2 / fan out (He et al. 2015); normal with deviation 0.02 (transformers); uniform, bound 1 / sqrt(fan out)",
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
  init: z.enum(['ones', 'zeros']).default('ones').describe('Initial gain; zeros let a residual start as its shortcut'),
});

const layerNorm = {
  name,
  eps: nonNegative.default(1e-5).describe('Added to the variance'),
  affine: z.boolean().default(true).describe('Learn a gain and an offset for each feature'),
};

const linear = z.strictObject({
  type: z.literal('linear'),
  name,
  outFeatures: positiveInteger.describe('Size of the output'),
  bias,
  init,
});
const relu = z.strictObject({ type: z.literal('relu'), name });
const relu6 = z.strictObject({ type: z.literal('relu6'), name });
const maxPool2d = z.strictObject({ type: z.literal('maxPool2d'), ...pooling });
const avgPool2d = z.strictObject({ type: z.literal('avgPool2d'), ...pooling });
const globalAvgPool2d = z.strictObject({ type: z.literal('globalAvgPool2d') });
const flatten = z.strictObject({ type: z.literal('flatten') });
const dropout = z.strictObject({
  type: z.literal('dropout'),
  p: z.number().min(0).lt(1).default(0.5).describe('Share of the values set to zero in training'),
});
const shakeDrop = z.strictObject({
  type: z.literal('shakeDrop'),
  p: z.number().min(0).max(1).default(0.5).describe('Probability that an image is scaled at random in training'),
});
const side = z.int().default(0).describe('Zeros on this side, in pixels; a negative number cuts off');
const zeroPad = z.strictObject({
  type: z.literal('zeroPad'),
  left: side,
  right: side,
  top: side,
  bottom: side,
  channels: wholeNumber.default(0).describe('Zero channels after the others'),
});
const silu = z.strictObject({ type: z.literal('silu'), name });
const gelu = z.strictObject({
  type: z.literal('gelu'),
  name,
  approximate: z.enum(['none', 'tanh']).default('none').describe('Approximation of the normal distribution function'),
});
const hardswish = z.strictObject({ type: z.literal('hardswish'), name });
const sigmoid = z.strictObject({ type: z.literal('sigmoid'), name });
const tanh = z.strictObject({ type: z.literal('tanh'), name });
const leakyRelu = z.strictObject({
  type: z.literal('leakyRelu'),
  name,
  negativeSlope: z.number().default(0.01).describe('Slope below 0'),
});
const stochasticDepth = z.strictObject({
  type: z.literal('stochasticDepth'),
  name,
  p: z.number().min(0).lt(1).describe('Probability that everything is set to zero in training'),
  mode: z.enum(['row', 'batch']).default('row').describe('What drops out together: each image by itself, or the batch'),
});
const layerScale = z.strictObject({
  type: z.literal('layerScale'),
  name,
  init: z.number().default(1e-6).describe('Initial factor of every channel'),
});
const selfAttention = z.strictObject({
  type: z.literal('selfAttention'),
  name,
  numHeads: positiveInteger.describe('Heads, a divisor of the features'),
  bias,
  dropout: z.number().min(0).lt(1).default(0).describe('Share of the attention weights set to zero in training'),
  init,
});
const toTokens = z.strictObject({ type: z.literal('toTokens'), name });
const toImage = z.strictObject({
  type: z.literal('toImage'),
  name,
  height: positiveInteger.optional().describe('Rows of the image (default: as many as columns)'),
  width: positiveInteger.optional().describe('Columns of the image (default: as many as rows)'),
});
const classToken = z.strictObject({ type: z.literal('classToken'), name });
const positionEmbedding = z.strictObject({ type: z.literal('positionEmbedding'), name });
const tokenPool = z.strictObject({
  type: z.literal('tokenPool'),
  name,
  pool: z.enum(['class', 'mean']).default('class').describe('The first token or the mean of all'),
});

/** Layers that are not made of layers. */
export const simpleLayerSchema = z.discriminatedUnion('type', [
  conv2d,
  batchNorm2d,
  z.strictObject({ type: z.literal('layerNorm'), ...layerNorm }),
  z.strictObject({ type: z.literal('layerNorm2d'), ...layerNorm }),
  linear,
  relu,
  relu6,
  leakyRelu,
  silu,
  gelu,
  hardswish,
  sigmoid,
  tanh,
  maxPool2d,
  avgPool2d,
  globalAvgPool2d,
  flatten,
  dropout,
  stochasticDepth,
  shakeDrop,
  zeroPad,
  layerScale,
  selfAttention,
  toTokens,
  toImage,
  classToken,
  positionEmbedding,
  tokenPool,
]);
