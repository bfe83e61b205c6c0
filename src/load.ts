// Loads the native side ahead of time, so that the first model or data set does not wait for it.

import { z } from 'zod';
import { call } from './call.js';
import { loadNative } from './native/index.js';
import { positiveInteger } from './options/fields.js';
import { parseOptions } from './options/parse.js';

const loadSchema = z.strictObject({
  device: z.enum(['cpu']).default('cpu').describe('Device to train on'),
  threads: positiveInteger.max(1024).optional().describe('Threads of the computation (default: one per core)'),
});

/** Options of {@link load}. */
export type LoadOptions = z.input<typeof loadSchema>;

/**
 * Loads libtorch and the addon.
 * @throws `ERR_FLATMIN_LIBTORCH` when libtorch is not installed: run `flatmin setup`.
 */
export async function load(options: LoadOptions = {}): Promise<void> {
  const checked = parseOptions(loadSchema, options, 'load');
  const native = loadNative(checked);
  // The first load has set the threads; a later one may change them.
  const { threads } = checked;
  if (threads !== undefined) call(() => native.load({ threads }));
}
