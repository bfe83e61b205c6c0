// The loss of training, evaluation and custom loops: a name, or a name with its options.
// Both passes of a sharpness-aware step use the same loss.

import { z } from 'zod';

const lossNames = ['crossEntropy', 'bce', 'mse', 'kl'] as const;

const crossEntropy = z.strictObject({
  type: z.literal('crossEntropy'),
  labelSmoothing: z.number().min(0).lt(1).default(0).describe("Label smoothing, PyTorch's form"),
});

/**
 * `crossEntropy` (of logits and class labels or distributions), `bce` (of logits and targets in [0, 1]), `mse`, `kl` (of
 * log-softmax and target distributions). Class labels become one-hot targets where a loss needs dense ones.
 */
export const lossSchema = z
  .union([
    z.enum(lossNames).transform((type) => (type === 'crossEntropy' ? { type, labelSmoothing: 0 } : { type })),
    z.discriminatedUnion('type', [
      crossEntropy,
      z.strictObject({ type: z.literal('bce') }),
      z.strictObject({ type: z.literal('mse') }),
      z.strictObject({ type: z.literal('kl') }),
    ]),
  ])
  .default({ type: 'crossEntropy', labelSmoothing: 0 })
  .describe('Loss: crossEntropy (with labelSmoothing), bce, mse or kl');

export type Loss = z.input<typeof lossSchema>;
export type LossConfig = z.output<typeof lossSchema>;
