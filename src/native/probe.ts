// Runs in a child process of `flatmin doctor`: loads everything, computes one small thing, prints what it saw as JSON.
// A library that crashes the process on loading then takes only this child with it.

import { FlatminError } from '../errors.js';
import type { NativeInfo } from './binding.js';
import { loadDetailed } from './load.js';

/** What the child prints: one line of JSON. */
export type ProbeReport =
  | { readonly ok: true; readonly info: NativeInfo; readonly device: string }
  | { readonly ok: false; readonly code: string; readonly message: string };

async function probe(): Promise<ProbeReport> {
  try {
    const { binding, device } = loadDetailed({ device: process.argv[2] === 'cuda' ? 'cuda' : 'cpu' });
    const tensor = binding.BindingTensor.fromFloat32(new Float32Array([1, 2, 3]), [3]);
    const values = await tensor.data();
    tensor.dispose();
    if (values.length !== 3 || values[2] !== 3)
      throw new FlatminError('ERR_FLATMIN_INTERNAL', 'a tensor did not come back as it went in');
    return { ok: true, info: binding.info(), device };
  } catch (error) {
    const code = error instanceof FlatminError ? error.code : 'ERR_FLATMIN_INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
}

void probe().then((report) => process.stdout.write(`${JSON.stringify(report)}\n`));
