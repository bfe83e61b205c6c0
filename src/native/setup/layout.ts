// Which files of the wheels and archives make up a libtorch, and where each goes.
// For the CPU that is exactly what libtorch_cpu.so asks for; for CUDA the folders that libtorch_cuda.so's RPATH expects.

import type { LibtorchDevice } from '../libtorch.js';
import type { Wheel } from '../libtorch-table.js';
import type { Selector } from './unzip.js';

/** Without libtorch_cuda.so: builds would link it as soon as they see it. */
const cpuLibraries = new Set(['libtorch.so', 'libtorch_cpu.so', 'libc10.so', 'libgomp.so.1']);
/** Parts that only Python needs. */
const pythonLibraries = new Set(['libtorch_python.so', 'libshm.so']);

/** The entries of a wheel that `device` needs. */
export function wheelSelector(wheel: Wheel, device: LibtorchDevice): Selector {
  const pick = wheel.role === 'torch' ? torchEntry : cudaEntry(wheel.cpuFiles ?? []);
  return (entry) => licence(wheel.name, entry) ?? pick(entry, device);
}

function torchEntry(entry: string, device: LibtorchDevice): string | undefined {
  if (entry.startsWith('torch/include/')) return entry;
  const library = /^torch\/lib\/([^/]+\.so[^/]*)$/.exec(entry)?.[1];
  if (library === undefined) return undefined;
  const wanted = device === 'cpu' ? cpuLibraries.has(library) : !pythonLibraries.has(library);
  return wanted ? entry : undefined;
}

function cudaEntry(cpuFiles: readonly string[]): (entry: string, device: LibtorchDevice) => string | undefined {
  return (entry, device) => {
    const library = /^nvidia\/[^/]+\/lib\/([^/]+\.so[^/]*)$/.exec(entry)?.[1];
    if (library === undefined) return undefined;
    if (device === 'cuda') return entry;
    return cpuFiles.includes(library) ? `torch/lib/${library}` : undefined;
  };
}

function licence(name: string, entry: string): string | undefined {
  const path = /^[^/]+\.dist-info\/(?:licenses\/(.+)|((?:LICENSE|License|NOTICE)[^/]*))$/.exec(entry);
  return path === null ? undefined : `torch/licenses/${name}/${path[1] ?? path[2]}`;
}

/** The entries of PyTorch's own archive: everything shared, the headers, the version and the licences. */
export const archiveSelector: Selector = (entry) => {
  const path = /^libtorch\/(.+)$/.exec(entry)?.[1];
  if (path === undefined) return undefined;
  const wanted =
    /^lib\/[^/]+\.so[^/]*$/.test(path) ||
    path.startsWith('include/') ||
    /^(build-version|LICENSE.*|NOTICE.*)$/.test(path);
  return wanted ? `torch/${path}` : undefined;
};
