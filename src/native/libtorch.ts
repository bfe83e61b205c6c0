// What a libtorch folder holds: where its libraries lie, which version it is and whether it has CUDA.
// The version is read from text files, never by opening a library: opening a wrong one would crash instead of explaining.

import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
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

/**
 * Libraries that cuDNN, cuSPARSE and NVRTC itself ask for by their bare names, some only while they run. In NVIDIA's wheels no path
 * of theirs leads there, or one of the system's comes first: cuDNN could then compile no kernel of its own. One that is open already
 * is found by its name; PyTorch opens them before anything else, too.
 */
const askedForByName = [/^libnvJitLink\.so\.\d+$/, /^libnvrtc-builtins\.so\.[\d.]+$/, /^libnvrtc\.so\.\d+$/];

/** The libraries to open before the addon, in this order; of those for CUDA what is there, since archives differ. */
export function librariesToOpen({ root, lib }: Libtorch, device: LibtorchDevice): string[] {
  const own = (...names: string[]) => names.map((name) => join(lib, name)).filter((path) => existsSync(path));
  const cpu = own('libc10.so', coreLibrary);
  if (device === 'cpu') return cpu;
  const paths = [lib, ...nvidiaFolders(root)].flatMap((folder) =>
    readdirSync(folder).map((name) => join(folder, name)),
  );
  const byName = askedForByName.flatMap((pattern) => paths.filter((path) => pattern.test(basename(path))));
  return [...cpu, ...byName, ...own('libc10_cuda.so', 'libtorch_cuda.so')];
}

/** Where NVIDIA's wheels put their libraries: `nvidia/` beside `torch/`. */
function nvidiaFolders(root: string): string[] {
  const nvidia = join(dirname(root), 'nvidia');
  if (!existsSync(nvidia)) return [];
  const folders = readdirSync(nvidia).sort();
  return folders.map((name) => join(nvidia, name, 'lib')).filter((folder) => existsSync(folder));
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
