// Options of training that can be written down: what a config file, the command line and `config.json` of a run hold.
// The Trainer adds the live objects to them (model, optimizer, data sets, callbacks).

import { z } from 'zod';
import { augmentSchema } from './augment.js';
import { averageSchema } from './average.js';
import { device, path, positiveInteger, seed, wholeNumber } from './fields.js';
import { lossSchema } from './loss.js';
import { momentumScheduleSchema, rhoScheduleSchema, scheduleSchema } from './schedule.js';

/** Metrics of each evaluation; loss, accuracy and top-5 accuracy cost nothing and are always there. */
export const metricsSchema = z
  .array(z.enum(['accuracy', 'top5', 'confusionMatrix', 'ece']))
  .default([])
  .describe('Metrics of each evaluation beyond loss, accuracy and top5: ece, confusionMatrix');

/** What step events can tell beside the usual. */
export const stepMetricsSchema = z
  .array(z.enum(['updateNorm', 'weightNorm']))
  .default([])
  .describe('Further values of step events: updateNorm (of the change of the weights in the step), weightNorm');

/** What is written under `runDir/checkpoints`. */
export const checkpointSchema = z
  .strictObject({
    last: z.boolean().default(true).describe('Keep the newest state, to resume from'),
    best: z
      .boolean()
      .default(true)
      .describe('Keep the state with the best validation accuracy (none without a validation set)'),
    everyEpochs: positiveInteger.default(1).describe('Epochs between two checkpoints'),
  })
  .default({ last: true, best: true, everyEpochs: 1 })
  .describe('Checkpoints kept in the run folder');

/** Smaller training images at first. */
export const progressiveResizingSchema = z
  .union([
    positiveInteger.transform((from) => ({ from, increment: 32 })),
    z.strictObject({
      from: positiveInteger.describe('Side of the images at first, in pixels'),
      to: positiveInteger.optional().describe('Their side at last (default: that of the training set)'),
      increment: positiveInteger.default(32).describe('Sides on the way are multiples of it'),
      startEpoch: wholeNumber.optional().describe('Epochs before the images begin to grow (default: half of them)'),
      endEpoch: wholeNumber.optional().describe('Epochs before they have their last size (default: four fifths)'),
    }),
  ])
  .optional()
  .describe(
    'Progressive resizing: side of the training images at first, in pixels, or { from, to, increment, startEpoch, endEpoch }',
  );

/** Options of {@link Trainer} but for its live objects. */
export const trainerSchema = z.strictObject({
  epochs: positiveInteger.default(10).describe('Passes over the training set'),
  batchSize: positiveInteger.default(128).describe('Images per step'),
  device: device
    .optional()
    .describe('Where to train: auto, cpu, cuda or cuda:N; the model is moved there (default: where it is)'),
  seed: seed.describe('Seed of order, augmentation, dropout and the validation split'),
  schedule: scheduleSchema,
  rhoSchedule: rhoScheduleSchema,
  momentumSchedule: momentumScheduleSchema,
  loss: lossSchema,
  metrics: metricsSchema,
  stepMetrics: stepMetricsSchema,
  augment: augmentSchema,
  progressiveResizing: progressiveResizingSchema,
  average: averageSchema,
  accumulate: positiveInteger
    .optional()
    .describe('Images of one forward and backward pass; a larger batch is taken in parts, its gradients accumulated'),
  nonFinite: z
    .enum(['skip', 'error'])
    .default('skip')
    .describe('What a step does whose loss or gradient is not finite: it is skipped, or ends the run'),
  maxConsecutiveSkips: positiveInteger.default(100).describe('Skipped steps in a row that end the run'),
  dropLast: z.boolean().default(false).describe('Leave out the last batch of an epoch when it is smaller'),
  maxSteps: positiveInteger.optional().describe('Stop after this many steps, even in the middle of an epoch'),
  runDir: path
    .optional()
    .describe('Folder for config.json, events.jsonl and checkpoints; without one nothing is written'),
  tensorboard: z.boolean().default(false).describe('Write TensorBoard files into the run folder'),
  checkpoint: checkpointSchema,
  stepEventMs: wholeNumber.default(50).describe('Milliseconds between two step events'),
  threads: positiveInteger.max(1024).optional().describe('Threads of the computation (default: one per core)'),
  loaderThreads: wholeNumber
    .optional()
    .describe(
      'Threads that prepare batches; 0: the training thread itself (default: 1 for images in memory, one per core for files)',
    ),
});

/** Options of evaluation. */
export const evaluateSchema = z.strictObject({
  batchSize: positiveInteger.default(256).describe('Images per forward pass; does not change the result'),
  loss: lossSchema,
  metrics: metricsSchema,
  limit: positiveInteger.optional().describe('Evaluate only the first images'),
  mirror: z
    .boolean()
    .default(false)
    .describe('Take the mean of the logits of each image and of its mirror, left to right: two passes instead of one'),
});

/** Options of prediction. */
export const predictSchema = z.strictObject({
  topK: positiveInteger.default(1).describe('Classes returned for each image, most likely first'),
});

export type TrainingOptions = z.input<typeof trainerSchema>;
export type TrainingConfig = z.output<typeof trainerSchema>;
export type EvaluateOptions = z.input<typeof evaluateSchema>;
export type PredictOptions = z.input<typeof predictSchema>;
