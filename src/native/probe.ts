// Runs in a child process of `flatmin doctor`: loads everything, makes one small training pass, prints what it saw as JSON.
// A library that crashes the process on loading then takes only this child with it.

import { FlatminError } from '../errors.js';
import type { Binding, NativeInfo } from './binding.js';
import { loadDetailed } from './load.js';

/** What the child prints: one line of JSON. */
export type ProbeReport =
  | {
      readonly ok: true;
      readonly info: NativeInfo;
      /** Name and memory of each GPU that torch can use, where the CUDA library can tell. */
      readonly gpus: readonly string[];
      readonly device: string;
    }
  | { readonly ok: false; readonly code: string; readonly message: string };

/** Two convolutions in bfloat16: cuDNN and the compiler that it uses open some of their parts no sooner than they compute. */
const spec = {
  ...{ format: 1, name: 'probe', inputShape: [8, 16, 16], numClasses: 2 },
  layers: [
    { type: 'conv2d', outChannels: 64, kernelSize: 3, padding: 1 },
    { type: 'conv2d', outChannels: 64, kernelSize: 3, padding: 1 },
    { type: 'globalAvgPool2d' },
    { type: 'flatten' },
    { type: 'linear', outFeatures: 2 },
  ],
};

async function train({ BindingModel, BindingTensor }: Binding, device: string): Promise<void> {
  const model = BindingModel.create(spec, { dtype: 'bfloat16', seed: 0, device });
  const images = BindingTensor.fromFloat32(new Float32Array(8 * 8 * 16 * 16).fill(1), [8, 8, 16, 16]);
  const labels = BindingTensor.fromInt64(new BigInt64Array(8), [8]);
  const { loss } = await model.backward(images, labels, { loss: { type: 'crossEntropy' } });
  for (const used of [model, images, labels]) used.dispose();
  if (!Number.isFinite(loss))
    throw new FlatminError('ERR_FLATMIN_INTERNAL', `a small net's loss on ${device} is ${loss}`);
}

async function probe(): Promise<ProbeReport> {
  try {
    const { binding, device } = loadDetailed({ device: process.argv[2] === 'cuda' ? 'cuda' : 'cpu' });
    const info = binding.info();
    await train(binding, info.cudaDevices > 0 ? 'cuda:0' : 'cpu');
    const gpus = Array.from({ length: info.cudaDevices }, (_, index) => binding.gpu(index) ?? []).flat();
    return { ok: true, info, gpus, device };
  } catch (error) {
    const code = error instanceof FlatminError ? error.code : 'ERR_FLATMIN_INTERNAL';
    return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
  }
}

void probe().then((report) => process.stdout.write(`${JSON.stringify(report)}\n`));
