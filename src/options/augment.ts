// Options of augmentation: what is done to each training image, and the mixing of batches.

import { z } from 'zod';
import { fraction, positiveInteger } from './fields.js';

const alpha = z.number().gt(0).nullable().default(null);

const shares = z.tuple([fraction, fraction]);
const ratios = z.tuple([z.number().gt(0), z.number().gt(0)]);

/** A random part of the image, scaled to its size. */
export const resizedCropSchema = z.strictObject({
  scale: shares.default([0.08, 1]).describe("Least and greatest share of the image's area"),
  ratio: ratios.default([3 / 4, 4 / 3]).describe('Least and greatest width over height'),
});

const strength = z.number().min(0).default(0);

/** Random changes of colour, in random order. */
export const colorJitterSchema = z.strictObject({
  brightness: strength.describe('Factor from 1 - x to 1 + x'),
  contrast: strength.describe('Factor from 1 - x to 1 + x'),
  saturation: strength.describe('Factor from 1 - x to 1 + x'),
  hue: z.number().min(0).max(0.5).default(0).describe('Shift of the hue from -x to x turns'),
});

/** An augmentation policy of the literature. */
export const policySchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('autoAugment'),
    set: z.enum(['cifar10', 'imagenet', 'svhn']).describe('Data set on which the policy was found'),
  }),
  z.strictObject({
    type: z.literal('randAugment'),
    operations: positiveInteger.max(14).default(2).describe('Operations for each image'),
    magnitude: z.int().min(0).max(30).default(9).describe('Their magnitude, 0 to 30'),
  }),
  z.strictObject({ type: z.literal('trivialAugment') }),
]);

/** A random rectangle that is blanked with the mean. */
export const erasingSchema = z.strictObject({
  probability: fraction.default(0.5).describe('Share of the images'),
  scale: shares.default([0.02, 0.33]).describe("Least and greatest share of the image's area"),
  ratio: ratios.default([0.3, 3.3]).describe('Least and greatest width over height'),
});

const plain = {
  padCrop: null,
  resizedCrop: null,
  flip: false,
  colorJitter: null,
  policy: null,
  erasing: null,
  cutout: null,
  mixup: null,
  cutmix: null,
  mixProbability: 1,
  switchProbability: 0.5,
};

const named = {
  none: plain,
  standard: { ...plain, padCrop: 4, flip: true },
  imagenet: { ...plain, resizedCrop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] }, flip: true },
};

/** Names of ready-made augmentations. */
export const augmentNames = ['none', 'standard', 'imagenet'] as const;

/** Augmentation of the training images. */
export const augmentSchema = z
  .union([
    z.enum(augmentNames).transform((name) => named[name]),
    z.strictObject({
      padCrop: positiveInteger
        .nullable()
        .default(null)
        .describe('Pixels of zero padding before a random crop back to size'),
      resizedCrop: resizedCropSchema
        .nullable()
        .default(null)
        .describe('A random part of the image, scaled to its size'),
      flip: z.boolean().default(false).describe('Random horizontal flips'),
      colorJitter: colorJitterSchema
        .nullable()
        .default(null)
        .describe('Random brightness, contrast, saturation and hue'),
      policy: policySchema.nullable().default(null).describe('AutoAugment, RandAugment or TrivialAugment'),
      erasing: erasingSchema.nullable().default(null).describe('A random rectangle of some images is blanked'),
      cutout: positiveInteger
        .nullable()
        .default(null)
        .describe('Side of a square blanked at a random place, in pixels'),
      mixup: alpha.describe('alpha of mixup: lambda ~ Beta(alpha, alpha); null: off'),
      cutmix: alpha.describe('alpha of cutmix; null: off'),
      mixProbability: fraction.default(1).describe('Share of the batches that are mixed'),
      switchProbability: fraction
        .default(0.5)
        .describe('With both mixup and cutmix: share of the mixed batches that get cutmix'),
    }),
  ])
  .default(plain)
  .describe(
    "Augmentation: 'none', 'standard' (pad 4, crop, flip: as usual for CIFAR), 'imagenet' (random resized crop, flip) or { padCrop, resizedCrop, flip, colorJitter, policy, erasing, cutout, mixup, cutmix }",
  );
