// Options of tensors.

import { z } from 'zod';
import { wholeNumber } from './fields.js';

/** Shape of a tensor; [] is a scalar. */
export const shapeSchema = z.array(wholeNumber);

/** Number types that cross the boundary between JavaScript and libtorch. */
export const tensorDtypes = ['float32', 'float64', 'uint8', 'int64'] as const;

/** Options of {@link Tensor.from}. */
export const tensorSchema = z.strictObject({
  dtype: z.enum(tensorDtypes).optional().describe("Number type (default: the array's own; int64 for Int32Array)"),
});

export type TensorOptions = z.input<typeof tensorSchema>;
/** Number types that a tensor can have. Images in bfloat16 come from `dataset.batches`. */
export type TensorDtype = (typeof tensorDtypes)[number] | 'bfloat16';
