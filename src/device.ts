// Which device models live on. What libtorch can do is chosen once for a process, because torch settles which devices it has
// when it is first asked; within that, each model has its own.

import { FlatminError } from './errors.js';
import { loadDetailed } from './native/index.js';
import type { DeviceName } from './options/fields.js';

/** A device as models and tensors name it. */
export type Device = 'cpu' | `cuda:${number}`;

let preferred: DeviceName = 'cpu';

/** Loads the native side for a device; models that name none are made there from now on. */
export function chooseDevice(name: DeviceName): Device {
  const device = settleDevice(name);
  preferred = device;
  return device;
}

/**
 * The device of a name, loading the native side for it if nothing has yet.
 * @throws `ERR_FLATMIN_DEVICE` when it is not there.
 */
export function settleDevice(name: DeviceName = preferred): Device {
  const { binding, device: kind } = loadDetailed({ device: name });
  if (name === 'cpu') return 'cpu';
  const count = kind === 'cuda' ? binding.info().cudaDevices : 0;
  if (name === 'auto') return count > 0 ? 'cuda:0' : 'cpu';
  const index = name === 'cuda' ? 0 : Number(name.slice('cuda:'.length));
  if (index < count) return `cuda:${index}`;
  throw new FlatminError(
    'ERR_FLATMIN_DEVICE',
    count === 0
      ? `The device '${name}' was asked for, but libtorch finds no GPU that it can use: the driver may be too old for CUDA 13 (it needs 580 or later), or CUDA_VISIBLE_DEVICES may hide them all. \`npx flatmin doctor\` shows what is seen; 'cpu' and 'auto' work.`
      : `The device '${name}' was asked for, but there ${count === 1 ? "is one GPU, 'cuda:0'" : `are ${count} GPUs, 'cuda:0' to 'cuda:${count - 1}'`}.`,
  );
}
