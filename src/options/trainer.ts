// Options of training that can be written down: what a config file, the command line and `config.json` of a run hold.
// The Trainer adds the live objects to them (model, optimizer, data sets, callbacks).

import { z } from 'zod';
import { path, positiveInteger, seed, wholeNumber } from './fields.js';
import { lossSchema } from './loss.js';
import { scheduleSchema } from './schedule.js';

/** Metrics of each evaluation; loss, accuracy and top-5 accuracy cost nothing and are always there. */
export const metricsSchema = z
  .array(z.enum(['accuracy', 'top5', 'confusionMatrix', 'ece']))
  .default([])
  .describe('Metrics of each evaluation beyond loss, accuracy and top5: ece, confusionMatrix');

/** Augmentation of the training images. */
export const augmentSchema = z
  .union([
    z
      .enum(['none', 'standard'])
      .transform((name) => (name === 'standard' ? { padCrop: 4, flip: true } : { padCrop: null, flip: false })),
    z.strictObject({
      padCrop: positiveInteger
        .nullable()
        .default(null)
        .describe('Pixels of zero padding before a random crop back to size'),
      flip: z.boolean().default(false).describe('Random horizontal flips'),
    }),
  ])
  .default({ padCrop: null, flip: false })
  .describe("Augmentation: 'none', 'standard' (pad 4, crop, flip: as usual for CIFAR) or { padCrop, flip }");

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

/** Options of {@link Trainer} but for its live objects. */
export const trainerSchema = z.strictObject({
  epochs: positiveInteger.default(10).describe('Passes over the training set'),
  batchSize: positiveInteger.default(128).describe('Images per step'),
  seed: seed.describe('Seed of order, augmentation, dropout and the validation split'),
  schedule: scheduleSchema,
  loss: lossSchema,
  metrics: metricsSchema,
  augment: augmentSchema,
  dropLast: z.boolean().default(false).describe('Leave out the last batch of an epoch when it is smaller'),
  maxSteps: positiveInteger.optional().describe('Stop after this many steps, even in the middle of an epoch'),
  runDir: path
    .optional()
    .describe('Folder for config.json, events.jsonl and checkpoints; without one nothing is written'),
  checkpoint: checkpointSchema,
  stepEventMs: wholeNumber.default(50).describe('Milliseconds between two step events'),
  threads: positiveInteger.max(1024).optional().describe('Threads of the computation (default: one per core)'),
  loaderThreads: wholeNumber.default(1).describe('Threads that prepare batches; 0: the training thread itself'),
});

/** Options of evaluation. */
export const evaluateSchema = z.strictObject({
  batchSize: positiveInteger.default(256).describe('Images per forward pass; does not change the result'),
  loss: lossSchema,
  metrics: metricsSchema,
  limit: positiveInteger.optional().describe('Evaluate only the first images'),
});

/** Options of prediction. */
export const predictSchema = z.strictObject({
  topK: positiveInteger.default(1).describe('Classes returned for each image, most likely first'),
});

export type TrainingOptions = z.input<typeof trainerSchema>;
export type TrainingConfig = z.output<typeof trainerSchema>;
export type EvaluateOptions = z.input<typeof evaluateSchema>;
export type PredictOptions = z.input<typeof predictSchema>;
