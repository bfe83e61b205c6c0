// Options of data sets: where they come from, how they are split, and how batches are drawn in custom loops.
// Images are [height, width, channels] here, as files and canvases have them.

import { z } from 'zod';
import { classNames, dtype, fraction, positiveInteger, seed } from './fields.js';

/** Options of the CIFAR readers. */
export const cifarSchema = z.strictObject({
  split: z.enum(['train', 'test']).default('train').describe('Part of the data set'),
});

/** Shape of one image of a data set: [height, width, channels]. */
export const imageShapeSchema = z
  .tuple([positiveInteger, positiveInteger, positiveInteger])
  .describe('Shape of one image: [height, width, channels]');

const labelling = {
  classNames: classNames.optional(),
  numClasses: positiveInteger
    .optional()
    .describe('Number of classes (default: the length of classNames, else the largest label + 1)'),
  name: z.string().min(1).default('arrays').describe('Name of the data set'),
};

/** Options of {@link datasets.fromArrays} but for its arrays. */
export const arraysSchema = z.strictObject({ shape: imageShapeSchema, ...labelling });

/** Options of {@link datasets.fromGenerator}. */
export const generatorSchema = z.strictObject({
  shape: imageShapeSchema,
  ...labelling,
  limit: positiveInteger.optional().describe('Stop after this many samples'),
});

/** Options of {@link Dataset.split}. */
export const splitSchema = z.strictObject({ seed: seed.describe('Seed of the split') });

/** Sizes of the parts of a split: all shares of 1, or all counts. */
export const splitSizesSchema = z.array(z.number().min(0)).min(1);

/** Options of {@link Dataset.withLabelNoise}. */
export const labelNoiseSchema = z.strictObject({ seed: seed.describe('Seed of the noise') });

/** Share of the labels that are replaced. */
export const labelNoiseFraction = fraction;

/** Options of {@link Dataset.batches}. */
export const batchesSchema = z.strictObject({
  batchSize: positiveInteger.default(128).describe('Images per batch'),
  shuffle: z.boolean().default(true).describe('Draw the images in an order that depends on the seed'),
  seed: seed.describe('Seed of the order'),
  dropLast: z.boolean().default(false).describe('Leave out the last batch when it is smaller'),
  dtype: dtype.describe('Number type of the model that gets the images: float32 ones, or float64 for float64'),
});

/** Options of {@link datasets.download}. */
export const downloadSchema = z.strictObject({
  baseUrl: z.url().optional().describe("Where the archive lies (default: the data set's own site)"),
  md5: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'an MD5 sum of 32 hexadecimal digits')
    .optional()
    .describe('Checksum of the archive (default: the published one)'),
});

export type CifarOptions = z.input<typeof cifarSchema>;
export type ImageShape = z.output<typeof imageShapeSchema>;
export type ArraysOptions = z.input<typeof arraysSchema>;
export type GeneratorOptions = z.input<typeof generatorSchema>;
export type SplitOptions = z.input<typeof splitSchema>;
export type LabelNoiseOptions = z.input<typeof labelNoiseSchema>;
export type BatchesOptions = z.input<typeof batchesSchema>;
