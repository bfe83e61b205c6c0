// Loads the native side ahead of time, so that the first model or data set does not wait for it.

import { z } from 'zod';
import { call } from './call.js';
import { chooseDevice } from './device.js';
import { loadNative } from './native/index.js';
import { device, positiveInteger } from './options/fields.js';
import { parseOptions } from './options/parse.js';

const cudaSchema = z.strictObject({
  tf32Matmul: z
    .boolean()
    .optional()
    .describe('float32 matrix products in TensorFloat-32: faster, three digits (default: false)'),
  tf32Convolutions: z.boolean().optional().describe('float32 convolutions in TensorFloat-32 (default: true)'),
  cudnnBenchmark: z
    .boolean()
    .optional()
    .describe('cuDNN times its algorithms for each new shape and keeps the fastest (default: false)'),
  deterministic: z
    .boolean()
    .optional()
    .describe('Only algorithms that give the same bits each time, with a warning where there is none (default: false)'),
});

const loadSchema = z.strictObject({
  device: device.optional().describe('Where models live that name no device: auto, cpu, cuda or cuda:N (default: cpu)'),
  cuda: cudaSchema
    .optional()
    .describe("How libtorch's operations compute on a GPU, for the whole process (default: as PyTorch)"),
  threads: positiveInteger.max(1024).optional().describe('Threads of the computation (default: one per core)'),
});

/** Options of {@link load}. */
export type LoadOptions = z.input<typeof loadSchema>;

/**
 * Loads libtorch and the addon, with libtorch's CUDA part if the device asks for it; that cannot be added later.
 * @throws `ERR_FLATMIN_LIBTORCH` when libtorch is not installed: run `flatmin setup`. `ERR_FLATMIN_DEVICE` when the device is
 * not there, or when libtorch was loaded without CUDA before.
 */
export async function load(options: LoadOptions = {}): Promise<void> {
  const { device, threads, cuda } = parseOptions(loadSchema, options, 'load');
  if (device !== undefined) chooseDevice(device);
  const native = loadNative();
  if (threads !== undefined || cuda !== undefined) {
    call(() => native.load({ ...(threads !== undefined && { threads }), ...(cuda !== undefined && { cuda }) }));
  }
}
