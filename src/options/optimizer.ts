// Options of the base optimizers (SGD, Adam, AdamW), with PyTorch's meaning.
// Their defaults are PyTorch's, too, but for SGD's learning rate.

import { z } from 'zod';
import { nonNegative, positiveInteger } from './fields.js';
import { clipSchema, decaySchema, groupsSchema } from './groups.js';

const lr = nonNegative.describe('Learning rate');
const beta = z.number().min(0).lt(1);

/** Dynamic loss scaling, by the rule and with the defaults of PyTorch's `GradScaler`. */
export const lossScaleSchema = z.strictObject({
  initial: z.number().gt(0).default(65536).describe('Scale of the first step'),
  growthFactor: z.number().min(1).default(2).describe('Multiplies the scale after growthInterval good steps in a row'),
  backoffFactor: z
    .number()
    .gt(0)
    .max(1)
    .default(0.5)
    .describe('Multiplies the scale after a step whose gradient was not finite; that step is skipped'),
  growthInterval: positiveInteger.default(2000).describe('Good steps in a row after which the scale grows'),
});

/** Options of loss scaling. */
export type LossScale = z.output<typeof lossScaleSchema>;

const ofEveryBase = {
  decay: decaySchema
    .optional()
    .describe(
      "Where weight decay acts: 'optimizer' (PyTorch's form, the default), 'loss' (a penalty that the ascent sees, too), 'decoupled' (w shrinks by lr * weightDecay)",
    ),
  clip: clipSchema.optional().describe('Largest norm of the gradient that the optimizer gets (default: no clipping)'),
  lossScale: lossScaleSchema
    .optional()
    .describe('What the loss is multiplied by before backward passes (default: scaled for float16 models only)'),
  groups: groupsSchema,
};

/** Options of {@link SGD}. */
export const sgdSchema = z
  .strictObject({
    lr: lr.default(0.1),
    momentum: nonNegative.default(0).describe('Momentum factor'),
    dampening: z.number().default(0).describe('Dampening of the momentum'),
    weightDecay: nonNegative.default(0).describe('L2 penalty, added to the gradient as weightDecay * w'),
    nesterov: z.boolean().default(false).describe('Nesterov momentum; needs momentum > 0 and dampening 0'),
    ...ofEveryBase,
  })
  .refine((options) => !options.nesterov || (options.momentum > 0 && options.dampening === 0), {
    path: ['nesterov'],
    message: 'false, or a momentum above 0 with a dampening of 0',
  });

const adamFields = {
  lr: lr.default(1e-3),
  betas: z
    .tuple([beta, beta])
    .default([0.9, 0.999])
    .describe('Decay rates of the running mean of the gradient and of its square'),
  eps: nonNegative.default(1e-8).describe('Added to the denominator'),
};

/** Options of {@link Adam}. */
export const adamSchema = z.strictObject({
  ...adamFields,
  weightDecay: nonNegative.default(0).describe('L2 penalty, added to the gradient as weightDecay * w'),
  ...ofEveryBase,
});

/** Options of {@link AdamW}. */
export const adamwSchema = z.strictObject({
  ...adamFields,
  weightDecay: nonNegative.default(0.01).describe('Decoupled weight decay: w shrinks by lr * weightDecay each step'),
  ...ofEveryBase,
});

export type SGDOptions = z.input<typeof sgdSchema>;
export type AdamOptions = z.input<typeof adamSchema>;
export type AdamWOptions = z.input<typeof adamwSchema>;
