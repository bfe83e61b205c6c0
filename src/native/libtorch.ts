// What a libtorch folder holds: where its libraries lie, which version it is and whether it has CUDA.
// The version is read from text files, never by opening a library: opening a wrong one would crash instead of explaining.

import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { ErrorCode } from '../errors.js';

/** The device a libtorch is wanted for. */
export type LibtorchDevice = 'cpu' | 'cuda';

/** A libtorch on disk. */
export interface Libtorch {
  /** The folder that holds `lib/` (and `include/`, where programs can be built against it). */
  readonly root: string;
  readonly lib: string;
  /** Release without local suffix: `2.13.0`. */
  readonly version: string;
  readonly hasCuda: boolean;
}

/** Either a libtorch, or why the folder is none. */
export type Inspection = { readonly libtorch: Libtorch } | { readonly problem: string };

/** The file without which nothing can be loaded. */
export const coreLibrary = 'libtorch_cpu.so';

/** Looks at a folder: a libtorch, its `lib/`, an installed Python package `torch`, or a folder that holds one of these as `torch/`. */
export function inspectLibtorch(folder: string): Inspection {
  if (!existsSync(folder)) return { problem: `${folder} does not exist` };
  const candidates = [folder, join(folder, 'torch'), join(folder, 'libtorch')];
  if (basename(resolve(folder)) === 'lib') candidates.push(dirname(resolve(folder)));
  const root = candidates.find((candidate) => existsSync(join(candidate, 'lib', coreLibrary)));
  if (root === undefined) return { problem: `${folder} holds no lib/${coreLibrary}` };
  const version = readVersion(root);
  if (version === undefined) {
    return {
      problem: `${root} does not tell its version (looked for ${versionFiles.map((file) => file.path).join(', ')})`,
    };
  }
  const real = realpathSync(root);
  const lib = join(real, 'lib');
  return { libtorch: { root: real, lib, version, hasCuda: existsSync(join(lib, 'libtorch_cuda.so')) } };
}

const versionFiles: readonly { readonly path: string; readonly pattern: RegExp }[] = [
  { path: 'build-version', pattern: /^\s*(\d+\.\d+\.\d+)/ },
  { path: 'version.py', pattern: /^__version__\s*=\s*['"](\d+\.\d+\.\d+)/m },
  { path: 'include/torch/headeronly/version.h', pattern: /#define TORCH_VERSION\s*\\?\s*"(\d+\.\d+\.\d+)/ },
  { path: 'include/torch/csrc/api/include/torch/version.h', pattern: /#define TORCH_VERSION\s*\\?\s*"(\d+\.\d+\.\d+)/ },
];

function readVersion(root: string): string | undefined {
  for (const { path, pattern } of versionFiles) {
    const file = join(root, path);
    const version = existsSync(file) ? pattern.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
    if (version !== undefined) return version;
  }
  return undefined;
}

/** A libtorch that serves, or why the folder does not and the code of the error that says so. */
export type Fit = { readonly libtorch: Libtorch } | { readonly problem: string; readonly code: ErrorCode };

/** Looks at a folder for a libtorch of this release and for this device. */
export function fitting(folder: string, version: string, device: LibtorchDevice): Fit {
  const seen = inspectLibtorch(folder);
  if ('problem' in seen) return { ...seen, code: 'ERR_FLATMIN_LIBTORCH' };
  const { root, version: found, hasCuda } = seen.libtorch;
  if (found !== version) {
    return { problem: `${root} is libtorch ${found}, needed is ${version}`, code: 'ERR_FLATMIN_LIBTORCH_VERSION' };
  }
  if (device === 'cuda' && !hasCuda) {
    return { problem: `${root} has no libtorch_cuda.so, it is for the CPU only`, code: 'ERR_FLATMIN_DEVICE' };
  }
  return seen;
}
