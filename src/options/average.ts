// The average of the weights that a run keeps beside them: exponential (EMA) or equal over the last epochs (SWA).
// An average follows w, never w + eps, whatever the optimizer.

import { z } from 'zod';
import { fraction, positiveInteger } from './fields.js';

const apply = z.boolean().default(true).describe('Give the model the averaged weights when the run is over');
const best = z.boolean().default(false).describe('Choose the best epoch on the averaged weights');
const statistics = z
  .enum(['average', 'estimate'])
  .describe('Running statistics of batch norm: averaged as the weights are, or estimated over the training set');

const ema = z.strictObject({
  type: z.literal('ema'),
  decay: fraction.default(0.999).describe('Share of the average that stays at an update'),
  warmup: z.boolean().default(false).describe('Begin with decay (1 + t) / (10 + t) at update t, as far as it is lower'),
  everySteps: positiveInteger.default(1).describe('Steps between two updates'),
  batchNorm: statistics.default('average'),
  apply,
  best,
});

const swa = z.strictObject({
  type: z.literal('swa'),
  startEpoch: positiveInteger
    .nullable()
    .default(null)
    .describe("First epoch, from 1, whose weights are taken (default: the first of the run's last quarter)"),
  everyEpochs: positiveInteger.default(1).describe('Epochs between two ends of epochs whose weights are taken'),
  everySteps: positiveInteger
    .nullable()
    .default(null)
    .describe('Take the weights after every so many steps of the start epoch and those after it instead'),
  batchNorm: statistics.default('estimate'),
  apply,
  best,
});

/** `null`, `'ema'`, `'swa'`, or an object with the details. */
export const averageSchema = z
  .union([z.enum(['ema', 'swa']).transform((type) => ({ type })), z.discriminatedUnion('type', [ema, swa])])
  .nullable()
  .default(null)
  .describe('Average of the weights: none, ema (exponential) or swa (equal, over the last epochs)');

export type Average = z.input<typeof averageSchema>;
export type AverageConfig = z.output<typeof averageSchema>;
