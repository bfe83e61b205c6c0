// A made-up world for set-up: tiny wheels with their table, a machine that fits, an empty cache.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LibtorchTable, Wheel } from '../../src/native/libtorch-table.js';
import type { Reporter } from '../../src/native/setup/reporter.js';
import type { SetupWorld } from '../../src/native/setup/world.js';
import { writeZip } from './zip.js';

/** Release of the made-up libtorch: one that does not exist, so nothing real can be mistaken for it. */
export const release = '9.9.9';

/** A machine that has a build. */
export const linux = { os: 'linux', arch: 'x64', libc: 'glibc', libcVersion: '2.36' } as const;

const torchEntries = {
  'torch/version.py': `__version__ = '${release}+cu130'\n`,
  'torch/include/torch/headeronly/version.h': `#define TORCH_VERSION \\\n  "${release}"\n`,
  'torch/lib/libtorch.so': 'torch',
  'torch/lib/libtorch_cpu.so': 'cpu',
  'torch/lib/libc10.so': 'c10',
  'torch/lib/libgomp.so.1': 'gomp',
  'torch/lib/libtorch_cuda.so': 'cuda',
  'torch/lib/libtorch_python.so': 'python',
  'torch/nn/functional.py': 'def relu(): pass',
  [`torch-${release}.dist-info/licenses/LICENSE`]: 'BSD-3-Clause',
};

const runtimeEntries = {
  'nvidia/cu13/lib/libcudart.so.13': 'cudart',
  'nvidia/cu13/lib/libcudart_static.a': 'static',
  'nvidia/cu13/include/cuda.h': 'header',
  'nvidia_runtime-1.dist-info/licenses/License.txt': 'NVIDIA',
};

const cudnnEntries = { 'nvidia/cudnn/lib/libcudnn.so.9': 'cudnn' };

/** Writes the wheels into `folder` and returns the table that describes them. */
export function makeWheels(folder: string): LibtorchTable {
  mkdirSync(folder, { recursive: true });
  const common = { version: release, role: 'cuda-library' } as const;
  const wheels = [
    wheel(folder, 'torch.whl', torchEntries, {
      ...common,
      name: 'torch',
      role: 'torch',
      unpacked: { cpu: 100, cuda: 200 },
    }),
    wheel(folder, 'runtime.whl', runtimeEntries, {
      ...common,
      name: 'nvidia-runtime',
      unpacked: { cpu: 6, cuda: 6 },
      cpuFiles: ['libcudart.so.13'],
    }),
    wheel(folder, 'cudnn.whl', cudnnEntries, { ...common, name: 'nvidia-cudnn', unpacked: { cpu: 0, cuda: 5 } }),
  ];
  const archive = (kind: string) => ({
    path: `libtorch/${kind}.zip`,
    file: `${kind}.zip`,
    bytes: 1_000,
    unpacked: 2_000,
  });
  return {
    version: release,
    pip: { pythonVersion: '3.12', implementation: 'cp', platforms: ['manylinux_2_28_x86_64', 'manylinux1_x86_64'] },
    wheels,
    archives: { cpu: archive('cpu'), cuda: archive('cuda') },
  };
}

function wheel(
  folder: string,
  file: string,
  entries: Record<string, string>,
  rest: Omit<Wheel, 'file' | 'bytes' | 'sha256'>,
): Wheel {
  const path = join(folder, file);
  writeZip(path, entries);
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
  return { ...rest, file, bytes: statSync(path).size, sha256 };
}

/** PyTorch's own archive, as small as can be; `version` is what its version file says. */
export function writeArchive(path: string, version = release, wrongCrc?: string): void {
  const entries = {
    'libtorch/build-version': `${version}+cpu\n`,
    'libtorch/lib/libtorch_cpu.so': 'cpu',
    'libtorch/lib/libprotobuf.a': 'static',
    'libtorch/include/torch/torch.h': 'header',
    'libtorch/share/cmake/Torch.cmake': 'cmake',
  };
  writeZip(path, entries, wrongCrc);
}

/** A libtorch folder that has everything but the code. */
export function writeLibtorch(folder: string, version = release, libraries = ['libtorch_cpu.so', 'libc10.so']): string {
  mkdirSync(join(folder, 'lib'), { recursive: true });
  for (const name of libraries) writeFileSync(join(folder, 'lib', name), 'not a library');
  writeFileSync(join(folder, 'build-version'), `${version}\n`);
  return folder;
}

/** A world without driver and Python whose cache is `cache`; `changes` overrides any of it. */
export function makeWorld(cache: string, table: LibtorchTable, changes: Partial<SetupWorld> = {}): SetupWorld {
  return {
    env: { FLATMIN_CACHE: cache },
    table,
    machine: linux,
    hasDriver: () => false,
    python: () => undefined,
    freeBytes: () => Promise.resolve(1e12),
    ...changes,
  };
}

/** A reporter that remembers what it was told. */
export function listen(): Reporter & { readonly notes: string[]; readonly states: string[] } {
  const notes: string[] = [];
  const states: string[] = [];
  return { notes, states, note: (line) => notes.push(line), progress: (line) => states.push(line) };
}
