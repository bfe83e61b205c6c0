// Which libraries are opened, and in which order, in made-up folders.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fitting, librariesToOpen } from '../src/native/libtorch.js';
import { temporaryFolder } from './support/folder.js';
import { release, writeLibtorch } from './support/libtorch.js';

const folder = temporaryFolder('libtorch');
const cuda = ['libtorch_cpu.so', 'libc10.so', 'libtorch_cuda.so', 'libc10_cuda.so'];

/** An installed PyTorch, with files of NVIDIA's wheels beside it. */
function installed(name: string, libraries: readonly string[], nvidia: Readonly<Record<string, string[]>> = {}) {
  const packages = join(folder, name);
  for (const [place, files] of Object.entries(nvidia)) {
    mkdirSync(join(packages, 'nvidia', place), { recursive: true });
    for (const file of files) writeFileSync(join(packages, 'nvidia', place, file), 'not a library');
  }
  const fit = fitting(writeLibtorch(join(packages, 'torch'), release, [...libraries]), release, 'cpu');
  if ('problem' in fit) throw new Error(fit.problem);
  return (device: 'cpu' | 'cuda') =>
    librariesToOpen(fit.libtorch, device).map((path) => path.slice(packages.length + 1));
}

const cpuLibraries = ['torch/lib/libc10.so', 'torch/lib/libtorch_cpu.so'];
const cudaLibraries = ['torch/lib/libc10_cuda.so', 'torch/lib/libtorch_cuda.so'];

describe('the libraries that are opened', () => {
  const nvrtc = ['libnvrtc.so.13', 'libnvrtc.alt.so.13', 'libnvrtc-builtins.so.13.0', 'libnvrtc-builtins.alt.so.13.0'];
  const wheels = { 'cu13/lib': [...nvrtc, 'libnvJitLink.so.13', 'libcudart.so.13'], 'cudnn/lib': ['libcudnn.so.9'] };

  it("are libtorch's own for the CPU, whatever else lies there", () => {
    const opened = installed('cpu', cuda, wheels);
    expect(opened('cpu')).toEqual(cpuLibraries);
  });

  it('begin, for CUDA, with those that others ask for by name: of the wheels beside libtorch', () => {
    const opened = installed('wheels', cuda, { ...wheels, headers: [] });
    expect(opened('cuda')).toEqual([
      ...cpuLibraries,
      'nvidia/cu13/lib/libnvJitLink.so.13',
      'nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
      'nvidia/cu13/lib/libnvrtc.so.13',
      ...cudaLibraries,
    ]);
  });

  it("or of libtorch's own folder, as in its archive", () => {
    const opened = installed('archive', [...cuda, 'libnvrtc-builtins.so.13.0', 'libcudnn.so.9']);
    expect(opened('cuda')).toEqual([...cpuLibraries, 'torch/lib/libnvrtc-builtins.so.13.0', ...cudaLibraries]);
  });

  it('are those of each release of CUDA, where wheels of several lie side by side', () => {
    const opened = installed('several', cuda, {
      'cuda_nvrtc/lib': ['libnvrtc.so.12', 'libnvrtc-builtins.so.12.8'],
      'cu13/lib': ['libnvrtc.so.13', 'libnvrtc-builtins.so.13.0'],
    });
    expect(opened('cuda')).toEqual([
      ...cpuLibraries,
      'nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
      'nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8',
      'nvidia/cu13/lib/libnvrtc.so.13',
      'nvidia/cuda_nvrtc/lib/libnvrtc.so.12',
      ...cudaLibraries,
    ]);
  });
});
