// Loads the native side, once per process, in the only order that works: choose the device, open libtorch (and its CUDA
// part), then the addon. torch settles which devices it has when it is first asked, so nothing may ask it earlier.

import { dirname } from 'node:path';
import { FlatminError, fromNative } from '../errors.js';
import type { DeviceName } from '../options/fields.js';
import { type AddonFiles, nodeRequire } from './addon.js';
import type { Binding } from './binding.js';
import { driverSigns, hasNvidiaDriver } from './driver.js';
import { findNative } from './find.js';
import { type Libtorch, type LibtorchDevice, librariesToOpen } from './libtorch.js';
import { platformOf, thisMachine } from './platform.js';

/** How to load the native side. */
export interface LoadOptions {
  /**
   * Device to load for. `auto` takes CUDA where a driver and a CUDA libtorch are found. Default: what is loaded already, else
   * `cpu`.
   */
  readonly device?: DeviceName;
  /** Threads that torch computes with. Default: as many as the machine has cores for this process. */
  readonly threads?: number;
}

/** The loaded native side and where it came from. */
export interface Loaded {
  readonly binding: Binding;
  readonly device: LibtorchDevice;
  readonly libtorch: Libtorch;
  readonly source: string;
  readonly addon: string;
}

let loaded: Loaded | undefined;

/**
 * The native addon; the first call loads it together with libtorch (about 0.2 s, with CUDA 2 s), later ones are free.
 * @throws `ERR_FLATMIN_PLATFORM`, `ERR_FLATMIN_ADDON`, `ERR_FLATMIN_LIBTORCH`, `ERR_FLATMIN_LIBTORCH_VERSION`, each with
 * the way out, and `ERR_FLATMIN_DEVICE` when the process has already loaded for another device.
 */
export function loadNative(options: LoadOptions = {}): Binding {
  return loadDetailed(options).binding;
}

/** Like {@link loadNative}, and says what was loaded. */
export function loadDetailed(options: LoadOptions = {}): Loaded {
  loaded ??= load(options);
  if (options.device?.startsWith('cuda') && loaded.device === 'cpu') {
    throw new FlatminError(
      'ERR_FLATMIN_DEVICE',
      `The device '${options.device}' was asked for, but this process has already loaded libtorch for the CPU, and torch cannot add CUDA later. Call load({ device: '${options.device}' }) before anything else.`,
    );
  }
  return loaded;
}

function load({ device: wanted = 'cpu', threads }: LoadOptions): Loaded {
  const search = { env: process.env, device: kindOf(wanted) };
  const { files, libtorch, source, device } = findNative(platformOf(thisMachine()), search);
  openLibtorch(files, libtorch, device);
  const binding = requireAddon(files.addon);
  try {
    binding.load({
      ...(threads !== undefined && { threads }),
      ...(device === 'cuda' && { cudaLibraries: process.env.FLATMIN_CUDA_LIBRARIES || dirname(files.addon) }),
    });
  } catch (error) {
    throw fromNative(error);
  }
  return { binding, device, libtorch, source, addon: files.addon };
}

/** Whether libtorch's CUDA part is wanted. */
function kindOf(wanted: DeviceName): LibtorchDevice | 'auto' {
  const driver = hasNvidiaDriver();
  if (wanted === 'cpu' || (wanted === 'auto' && !driver)) return 'cpu';
  if (driver) return wanted === 'auto' ? 'auto' : 'cuda';
  throw new FlatminError(
    'ERR_FLATMIN_DEVICE',
    `The device '${wanted}' was asked for, but this machine has no NVIDIA driver (none of ${driverSigns.join(', ')} is there). Install one, in a container pass the GPU through (docker run --gpus all), or ask for 'cpu' or 'auto'. \`npx flatmin doctor\` shows what is seen.`,
  );
}

function openLibtorch(files: AddonFiles, libtorch: Libtorch, device: LibtorchDevice): void {
  try {
    const preload = nodeRequire(files.preload) as { open(paths: string[]): void };
    preload.open(librariesToOpen(libtorch, device));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FlatminError(
      'ERR_FLATMIN_LIBTORCH',
      `libtorch ${libtorch.version} in ${libtorch.lib} cannot be opened: ${reason}. Remove ${libtorch.root} and bring it again with: npx flatmin setup`,
      error,
    );
  }
}

function requireAddon(path: string): Binding {
  try {
    return nodeRequire(path) as Binding;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new FlatminError('ERR_FLATMIN_ADDON', `The native addon ${path} cannot be loaded: ${reason}`, error);
  }
}
