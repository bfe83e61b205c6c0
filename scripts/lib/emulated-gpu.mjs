// What a process needs so that it has an emulated GPU: the full CUDA libtorch, and crates/torch-ext/cuda/emulator in the driver's place.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { importDist, root, say } from './base.mjs';

/** The libraries of the full CUDA libtorch, brought if they are missing. */
export async function cudaLibtorch() {
  const { setUp } = await importDist('native/setup/index.js');
  const note = (line) => say(`libtorch: ${line}`);
  const { path } = await setUp({ device: 'cuda' }, { note, progress: () => {} });
  return join(path, 'lib');
}

/** The environment of a process with an emulated GPU, as `buildEmulatedGpu` made it. */
export function emulated({ driver, library }) {
  const sign = pathToFileURL(join(root, '__test__', 'support', 'emulated-driver.mjs'));
  return {
    ...process.env,
    LD_PRELOAD: driver,
    NODE_OPTIONS: `--import ${sign}`,
    FLATMIN_CUDA_LIBRARIES: library,
    FLATMIN_EMULATED_GPUS: '1',
    PYTHONPATH: join(root, 'crates/torch-ext/cuda/emulator'),
    // More threads compute than there are cores: those of a pass, and those of autograd.
    OMP_WAIT_POLICY: 'passive',
  };
}
