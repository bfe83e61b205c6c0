// Builders of the layers of a model, for `Model.sequential`. Each returns a plain object of the spec language,
// so a model can as well be written as JSON.

import type { Layer } from './options/model.js';

type LayerOf<T extends Layer['type']> = Extract<Layer, { type: T }>;
type Rest<T extends Layer['type'], K extends keyof LayerOf<T> = never> = Omit<LayerOf<T>, 'type' | K>;

/** Convolution with square filters: [batch, channels, height, width] to [batch, outChannels, h', w']. */
export function conv2d(
  outChannels: number,
  kernelSize: number,
  options: Rest<'conv2d', 'outChannels' | 'kernelSize'> = {},
): Layer {
  return { type: 'conv2d', outChannels, kernelSize, ...options };
}

/** Batch normalisation of each channel of [batch, channels, height, width]. */
export function batchNorm2d(options: Rest<'batchNorm2d'> = {}): Layer {
  return { type: 'batchNorm2d', ...options };
}

/** Matrix product plus bias: [batch, features] to [batch, outFeatures], or [batch, tokens, features] token by token. */
export function linear(outFeatures: number, options: Rest<'linear', 'outFeatures'> = {}): Layer {
  return { type: 'linear', outFeatures, ...options };
}

/** max(x, 0). */
export function relu(options: Rest<'relu'> = {}): Layer {
  return { type: 'relu', ...options };
}

/** min(max(x, 0), 6). */
export function relu6(options: Rest<'relu6'> = {}): Layer {
  return { type: 'relu6', ...options };
}

/** max(x, 0) + negativeSlope min(x, 0). */
export function leakyRelu(options: Rest<'leakyRelu'> = {}): Layer {
  return { type: 'leakyRelu', ...options };
}

/** x / (1 + exp(-x)), also called swish. */
export function silu(options: Rest<'silu'> = {}): Layer {
  return { type: 'silu', ...options };
}

/** x times the normal distribution function of x (Hendrycks and Gimpel 2016). */
export function gelu(options: Rest<'gelu'> = {}): Layer {
  return { type: 'gelu', ...options };
}

/** x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019). */
export function hardswish(options: Rest<'hardswish'> = {}): Layer {
  return { type: 'hardswish', ...options };
}

/** 1 / (1 + exp(-x)). */
export function sigmoid(options: Rest<'sigmoid'> = {}): Layer {
  return { type: 'sigmoid', ...options };
}

/** Hyperbolic tangent. */
export function tanh(options: Rest<'tanh'> = {}): Layer {
  return { type: 'tanh', ...options };
}

/** Normalises each vector of features (Ba et al. 2016), of [batch, features] or of each token of [batch, tokens, features]. */
export function layerNorm(options: Rest<'layerNorm'> = {}): Layer {
  return { type: 'layerNorm', ...options };
}

/** Normalises the channels of each pixel of [batch, channels, height, width]. */
export function layerNorm2d(options: Rest<'layerNorm2d'> = {}): Layer {
  return { type: 'layerNorm2d', ...options };
}

/** Maximum over windows; the stride is the kernel's size unless given. */
export function maxPool2d(kernelSize: number, options: Rest<'maxPool2d', 'kernelSize'> = {}): Layer {
  return { type: 'maxPool2d', kernelSize, ...options };
}

/** Mean over windows; the stride is the kernel's size unless given. */
export function avgPool2d(kernelSize: number, options: Rest<'avgPool2d', 'kernelSize'> = {}): Layer {
  return { type: 'avgPool2d', kernelSize, ...options };
}

/** Mean of each channel over the whole image: [batch, channels, height, width] to [batch, channels, 1, 1]. */
export function globalAvgPool2d(): Layer {
  return { type: 'globalAvgPool2d' };
}

/** [batch, ...] to [batch, features]. */
export function flatten(): Layer {
  return { type: 'flatten' };
}

/** In training, sets a share `p` of the values to zero and scales the others by 1 / (1 - p). */
export function dropout(p = 0.5): Layer {
  return { type: 'dropout', p };
}

/**
 * For the end of a residual's branch (Huang et al. 2016): in training each image is set to zero with probability `p`, and scaled
 * by 1 / (1 - p) otherwise. Both passes of a sharpness-aware step drop the same, unless asked otherwise.
 */
export function stochasticDepth(p: number, options: Rest<'stochasticDepth', 'p'> = {}): Layer {
  return { type: 'stochasticDepth', p, ...options };
}

/** A learnt factor for each channel or feature (Touvron et al. 2021); the parameter has the layer's own name. */
export function layerScale(options: Rest<'layerScale'> = {}): Layer {
  return { type: 'layerScale', ...options };
}

/** Multi-head self-attention over [batch, tokens, features] (Vaswani et al. 2017); its linear maps are `qkv` and `proj`. */
export function selfAttention(numHeads: number, options: Rest<'selfAttention', 'numHeads'> = {}): Layer {
  return { type: 'selfAttention', numHeads, ...options };
}

/** [batch, channels, height, width] to one token a pixel, [batch, height * width, channels]. */
export function toTokens(options: Rest<'toTokens'> = {}): Layer {
  return { type: 'toTokens', ...options };
}

/** The way back from `toTokens`; the image is square unless its height or width is given. */
export function toImage(options: Rest<'toImage'> = {}): Layer {
  return { type: 'toImage', ...options };
}

/** Puts a learnt token in front of the others (Dosovitskiy et al. 2021); the parameter has the layer's own name. */
export function classToken(options: Rest<'classToken'> = {}): Layer {
  return { type: 'classToken', ...options };
}

/** Adds a learnt vector to the token of each place (Dosovitskiy et al. 2021); the parameter has the layer's own name. */
export function positionEmbedding(options: Rest<'positionEmbedding'> = {}): Layer {
  return { type: 'positionEmbedding', ...options };
}

/** [batch, tokens, features] to [batch, features]: the first token, or the mean of all. */
export function tokenPool(pool: 'class' | 'mean' = 'class', options: Rest<'tokenPool', 'pool'> = {}): Layer {
  return { type: 'tokenPool', pool, ...options };
}

/**
 * For the end of a residual's branch (Yamada et al. 2018): in training each image is scaled, with probability `p`, by a random
 * number from [-1, 1], and its gradient by another from [0, 1]; in evaluation all are scaled by the expectation 1 - p.
 */
export function shakeDrop(p = 0.5): Layer {
  return { type: 'shakeDrop', p };
}

/** Zeros around the image (negative numbers cut off) and zero channels after the others. */
export function zeroPad(options: Rest<'zeroPad'>): Layer {
  return { type: 'zeroPad', ...options };
}

/** Layers applied in order, under one name. */
export function sequential(layers: Layer[], options: { name?: string } = {}): Layer {
  return { type: 'sequential', layers, ...options };
}

/** activation(layers(x) + shortcut(x)); the shortcut is the identity unless given. */
export function residual(layers: Layer[], options: Rest<'residual', 'layers'> = {}): Layer {
  return { type: 'residual', layers, ...options };
}

/** Branches that read the same input, joined over channels. `[]` is the branch that passes the input on. */
export function concat(branches: Layer[][], options: Rest<'concat', 'branches'> = {}): Layer {
  return { type: 'concat', branches, ...options };
}

/** Branches that read the same input, added. */
export function sum(branches: Layer[][], options: Rest<'sum', 'branches'> = {}): Layer {
  return { type: 'sum', branches, ...options };
}

/**
 * Two branches mixed at random, an image at a time (Gastaldi 2017): with weights alpha and 1 - alpha in training, their gradients
 * with weights beta and 1 - beta; in evaluation the mean.
 */
export function shakeShake(branches: [Layer[], Layer[]], options: Rest<'shakeShake', 'branches'> = {}): Layer {
  return { type: 'shakeShake', branches, ...options };
}

/** x * layers(x), where the layers give x's shape or one number for each channel. */
export function gate(layers: Layer[], options: Rest<'gate', 'layers'> = {}): Layer {
  return { type: 'gate', layers, ...options };
}

/**
 * Weighs the channels of an image by a small net of their means (Hu et al. 2018): `fc1` to `squeezeChannels`, an activation,
 * `fc2` back, a sigmoid; the names are torchvision's.
 */
export function squeezeExcitation(
  channels: number,
  squeezeChannels: number,
  options: { name?: string; activation?: Layer } = {},
): Layer {
  const { activation = relu(), ...rest } = options;
  const fullyConnected = (name: string, outChannels: number) => conv2d(outChannels, 1, { name });
  const squeeze = [globalAvgPool2d(), fullyConnected('fc1', squeezeChannels), activation];
  return gate([...squeeze, fullyConnected('fc2', channels), sigmoid()], rest);
}
