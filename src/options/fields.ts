// Field schemas that several option sets share, so that the same word means the same everywhere.
// Each option set adds its own description and default.

import { z } from 'zod';

/** A whole number of at least 1. */
export const positiveInteger = z.int().min(1);

/** A whole number of at least 0. */
export const wholeNumber = z.int().min(0);

/** A finite number of at least 0. */
export const nonNegative = z.number().min(0);

/** A number in [0, 1]. */
export const fraction = z.number().min(0).max(1);

/** Seed of a random stream; any non-negative safe integer. */
export const seed = z
  .int()
  .min(0)
  .max(Number.MAX_SAFE_INTEGER)
  .default(0)
  .describe('Seed of every random choice; the same seed gives the same result');

/** A path in the file system. */
export const path = z.string().min(1);

/** Paths in the file system. */
export const paths = z.array(path).min(1);

/** Class names, one per class, in the order of the labels. */
export const classNames = z
  .array(z.string().min(1))
  .min(1)
  .describe('Names of the classes, in the order of the labels');

/** Number types that a model can compute in. */
export const modelDtypes = ['float32', 'bfloat16', 'float16', 'float64'] as const;

/** Number type that a model computes in. */
export type ModelDtype = (typeof modelDtypes)[number];

/** Number type of weights and activations. */
export const dtype = z
  .enum(modelDtypes)
  .default('float32')
  .describe(
    'Number type to compute in; bfloat16 is faster and keeps float32 master weights, so does float16 where there is no bfloat16, float64 is for checking',
  );

/** A device as options name it: `auto` is the first GPU where there is one that can be used, else the CPU; `cuda` is `cuda:0`. */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/** Where a model lives and computes. */
export const device = z
  .string()
  .regex(/^(auto|cpu|cuda(:(0|[1-9]\d{0,2}))?)$/, "'auto', 'cpu', 'cuda' or 'cuda:N'") as unknown as z.ZodType<
  DeviceName,
  DeviceName
>;
