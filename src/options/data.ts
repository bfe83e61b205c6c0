// Options of data sets: where they come from, how they are split, and how batches are drawn in custom loops.
// Images are [height, width, channels] here, as files and canvases have them.

import { z } from 'zod';
import { augmentSchema } from './augment.js';
import { classNames, fraction, positiveInteger, seed, wholeNumber } from './fields.js';
import { normalizationSchema } from './model.js';

/** Options of published sets with a training and a test part. */
export const partSchema = z.strictObject({
  split: z.enum(['train', 'test']).default('train').describe('Part of the data set'),
});

/** Options of {@link datasets.svhn}. */
export const svhnSchema = z.strictObject({
  split: z
    .enum(['train', 'test', 'extra'])
    .default('train')
    .describe('Part of the data set; extra is 531,131 easier images, 1.6 GB in memory'),
});

/** How image files of any size become images of one size. */
export const imageFields = {
  size: z
    .union([positiveInteger, z.tuple([positiveInteger, positiveInteger])])
    .default(224)
    .describe('Side of the images in pixels, or [height, width]'),
  resize: positiveInteger
    .optional()
    .describe('Length of the shorter side before evaluation cuts out the centre (default: 8/7 of the size)'),
  badImages: z
    .enum(['error', 'skip', 'replace'])
    .default('error')
    .describe('What an image that cannot be decoded means: an error, one image less, or another one in its place'),
};

/** Options of {@link datasets.imageFolder} and {@link datasets.webdataset}. */
export const imagesSchema = z.strictObject({
  ...imageFields,
  classNames: classNames.optional(),
});

/** Options of {@link Dataset.withSize}. */
export const withSizeSchema = z.strictObject({ resize: imageFields.resize });

/** Options of {@link datasets.npz}. */
export const npzSchema = z.strictObject({
  images: z.string().min(1).default('images').describe('Name of the array of images in the archive'),
  labels: z.string().min(1).default('labels').describe('Name of the array of labels'),
  channelsFirst: z.boolean().default(false).describe('Images are [images, channels, height, width]'),
  classNames: classNames.optional(),
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
  seed: seed.describe('Seed of order and augmentation'),
  epoch: wholeNumber
    .max(2 ** 32 - 1)
    .default(0)
    .describe('Epoch, counted from 0: each has an order of its own'),
  startBatch: wholeNumber
    .max(2 ** 32 - 1)
    .default(0)
    .describe('Batches of the epoch that are left out at its beginning'),
  dropLast: z.boolean().default(false).describe('Leave out the last batch when it is smaller'),
  dtype: z
    .enum(['float32', 'float64', 'bfloat16', 'uint8'])
    .default('float32')
    .describe('Number type of the images; uint8: before normalisation, 255 is white'),
  augment: augmentSchema,
  normalization: normalizationSchema.optional().describe("Mean and deviation per channel (default: the set's own)"),
  loaderThreads: wholeNumber
    .max(256)
    .optional()
    .describe('Threads that prepare batches (default: 1 for images in memory, one per core for files)'),
  prefetch: positiveInteger.max(4096).default(4).describe('Batches ready ahead; each thread keeps at least one'),
});

const md5 = z.string().regex(/^[0-9a-f]{32}$/, 'an MD5 sum of 32 hexadecimal digits');

/** Options of {@link datasets.download}. */
export const downloadSchema = z.strictObject({
  baseUrl: z.url().optional().describe("Where the archive lies (default: the data set's own site)"),
  md5: z
    .union([md5, z.record(z.string(), md5)])
    .optional()
    .describe('Checksum of the archive, or of each file by its name (default: the published ones)'),
});

const threads = positiveInteger.max(256).optional().describe('Threads that decode images (default: one per core)');

/** Options of {@link datasets.inspect} and {@link datasets.verify}. */
export const jobSchema = z.strictObject({ threads });

/** Options of {@link datasets.pack}. */
export const packSchema = z.strictObject({
  samplesPerShard: positiveInteger.default(1000).describe('Images of one shard'),
  resize: positiveInteger
    .max(16384)
    .optional()
    .describe('Scale larger images until their shorter side is this long, as JPEG (default: copy the files)'),
  quality: z.int().min(1).max(100).default(90).describe('JPEG quality of scaled images'),
  shuffle: z.boolean().default(true).describe('Pack in a random order, so that each shard holds all kinds of classes'),
  seed: seed.describe('Seed of the order'),
  prefix: z
    .string()
    .regex(/^[\w-]+$/, 'letters, digits, - and _')
    .default('shard')
    .describe('Beginning of the names of the shards'),
  badImages: z
    .enum(['error', 'skip'])
    .default('error')
    .describe('What an image that cannot be decoded means: an error, or it is left out and named in the manifest'),
  threads,
});

/** Options of {@link datasets.preview} but for its augmentation. */
export const previewFields = {
  rows: positiveInteger.max(64).default(4).describe('Rows of images'),
  columns: positiveInteger.max(64).default(8).describe('Columns of images'),
  seed: seed.describe('Seed of the choice of images and of their augmentation'),
  epoch: wholeNumber.default(0).describe('Epoch whose augmentation is shown'),
};

/** Options of {@link datasets.preview}. */
export const previewSchema = z.strictObject({ ...previewFields, augment: augmentSchema });

export type PartOptions = z.input<typeof partSchema>;
export type SVHNOptions = z.input<typeof svhnSchema>;
export type ImagesOptions = z.input<typeof imagesSchema>;
export type NpzOptions = z.input<typeof npzSchema>;
export type PackOptions = z.input<typeof packSchema>;
export type PreviewOptions = z.input<typeof previewSchema>;
export type ImageShape = z.output<typeof imageShapeSchema>;
export type ArraysOptions = z.input<typeof arraysSchema>;
export type GeneratorOptions = z.input<typeof generatorSchema>;
export type SplitOptions = z.input<typeof splitSchema>;
export type LabelNoiseOptions = z.input<typeof labelNoiseSchema>;
export type WithSizeOptions = z.input<typeof withSizeSchema>;
export type BatchesOptions = z.input<typeof batchesSchema>;
