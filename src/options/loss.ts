// The loss of training, evaluation and custom loops: a name, or a name with its options.
// Both passes of a sharpness-aware step use the same loss.

import { z } from 'zod';
import { nonNegative } from './fields.js';

const lossNames = ['crossEntropy', 'focal', 'bce', 'mse', 'kl'] as const;

const classWeights = z
  .array(nonNegative)
  .min(1)
  .refine((weights) => weights.some((weight) => weight > 0), 'weights that are not all 0')
  .nullable()
  .default(null)
  .describe("One weight for each class, PyTorch's `weight`; null: all 1");

const crossEntropy = z.strictObject({
  type: z.literal('crossEntropy'),
  labelSmoothing: z.number().min(0).lt(1).default(0).describe("Label smoothing, PyTorch's form"),
  classWeights,
});

const focal = z.strictObject({
  type: z.literal('focal'),
  gamma: nonNegative.default(2).describe('Exponent of 1 - p; 0 is cross entropy'),
  classWeights,
});

/**
 * `crossEntropy` and `focal` (of logits and class labels or distributions), `bce` (of logits and targets in [0, 1]), `mse`,
 * `kl` (of log-softmax and target distributions). Class labels become one-hot targets where a loss needs dense ones.
 */
export const lossSchema = z
  .union([
    z.enum(lossNames).transform((type) => (type === 'crossEntropy' ? { type, labelSmoothing: 0 } : { type })),
    z.discriminatedUnion('type', [
      crossEntropy,
      focal,
      z.strictObject({ type: z.literal('bce') }),
      z.strictObject({ type: z.literal('mse') }),
      z.strictObject({ type: z.literal('kl') }),
    ]),
  ])
  .default({ type: 'crossEntropy', labelSmoothing: 0 })
  .describe('Loss: crossEntropy (with labelSmoothing and classWeights), focal, bce, mse or kl');

export type Loss = z.input<typeof lossSchema>;
export type LossConfig = z.output<typeof lossSchema>;
