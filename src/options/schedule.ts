// The learning-rate schedule: a factor on every group's learning rate, as a function of the progress of training.
// All schedules may begin with a linear warm-up.

import { z } from 'zod';
import { fraction, nonNegative } from './fields.js';

const warmupEpochs = nonNegative.default(0).describe('Epochs over which the learning rate rises linearly from near 0');
const minFactor = fraction.default(0).describe('The factor at the end of the cosine');
const milestones = z
  .array(nonNegative)
  .refine(
    (epochs) => epochs.every((epoch, index) => index === 0 || epoch > (epochs[index - 1] ?? 0)),
    'epochs, each above the one before',
  )
  .default([])
  .describe(
    'Epochs after which the learning rate is multiplied by gamma (default: half and three quarters of the run)',
  );
const gamma = z.number().gt(0).default(0.1).describe('Multiplier at each milestone');

/** `'constant'`, `'cosine'` (to 0 at the end), `'step'`, or an object with the details: warm-up, floor, milestones. */
export const scheduleSchema = z
  .union([
    z.enum(['constant', 'cosine', 'step']).transform((type) => ({ type, warmupEpochs: 0 })),
    z.discriminatedUnion('type', [
      z.strictObject({ type: z.literal('constant'), warmupEpochs }),
      z.strictObject({ type: z.literal('cosine'), warmupEpochs, minFactor }),
      z.strictObject({ type: z.literal('step'), warmupEpochs, milestones, gamma }),
    ]),
  ])
  .default({ type: 'constant', warmupEpochs: 0 })
  .describe('Learning-rate schedule: constant, cosine, or step with milestones');

export type Schedule = z.input<typeof scheduleSchema>;
export type ScheduleConfig = z.output<typeof scheduleSchema>;
