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

/** Matrix product plus bias: [batch, features] to [batch, outFeatures]. */
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
