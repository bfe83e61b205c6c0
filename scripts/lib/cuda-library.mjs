// Builds the CUDA library (crates/torch-ext/cuda): kernels by nvcc, libtorch's CUDA side by the C++ compiler, one library for each
// torch release. Objects are kept by the hash of what they were made from, so a second build does nothing.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { hashFiles, root, run, say } from './base.mjs';
import { requireLibtorch } from './libtorch.mjs';
import { cudaToolkit } from './toolkit.mjs';
import { nativeFolder } from './torch.mjs';

const sources = 'crates/torch-ext/cuda';

/** GPUs with code of their own (A100, H100 and H200); PTX serves newer ones. */
const architectures = ['80', '90'];

const code = [
  ...architectures.flatMap((name) => ['-gencode', `arch=compute_${name},code=sm_${name}`]),
  ...['-gencode', `arch=compute_${architectures.at(-1)},code=compute_${architectures.at(-1)}`],
];

const common = ['-std=c++20', '-O3'];
/** A kernel whose numbers do not fit into registers, and would lie in memory, is an error. */
const inRegisters = ['-Xptxas', '-warn-lmem-usage,-warn-spills,-Werror'];
/** Products and sums stay apart: the twin then rounds as the GPU does, and memory is what these kernels wait for. */
const kernelFlags = [...common, '--fmad=false', ...code, ...inRegisters, '-Xcompiler', '-fPIC,-fvisibility=hidden'];
const twinFlags = [...common, '-xc++', '-ffp-contract=off', '-fPIC', '-fvisibility=hidden'];
const hostFlags = [
  ...common,
  '-fPIC',
  '-fvisibility=hidden',
  '-Wall',
  '-Wextra',
  '-Wno-unused-parameter',
  '-Wno-stringop-overflow',
];

/** What the library needs of torch; stubs of the same names stand in for them when it is linked. */
const needed = ['libtorch_cuda.so', 'libc10_cuda.so', 'libtorch_cpu.so', 'libc10.so'];

const compiler = process.env.CXX ?? 'c++';

/** Builds the library for a torch release beside the addon for it; returns its path. */
export async function buildCudaLibrary(release) {
  const libtorch = await requireLibtorch(release);
  const toolkit = await cudaToolkit();
  const folder = nativeFolder(release);
  const library = join(folder, libraryName(release));
  const hash = hashOf([toolkit, ...kernelFlags, ...hostFlags, libtorch.version], `${sources}/torch`);
  const stamp = `${library}.stamp`;
  if (existsSync(library) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return library;
  say(`CUDA library for torch ${release.torch}: building`);
  const objects = await all(kernelObjects(toolkit), torchObjects(release, libtorch, toolkit));
  mkdirSync(folder, { recursive: true });
  inPlace(library, (staging) => link(staging, objects, toolkit));
  writeFileSync(stamp, hash);
  return library;
}

/** Makes a file aside and puts it in its place once it is whole: other processes may have it open. */
function inPlace(path, make) {
  const staging = `${path}.building`;
  make(staging);
  renameSync(staging, path);
}

function libraryName(release) {
  return `libflatmin_cuda_torch${release.torch.split('.').slice(0, 2).join('.')}.so`;
}

/** The kernels' objects for the GPU; the same for every torch release. */
function kernelObjects(toolkit) {
  return compile('kernels', join(toolkit, 'bin', 'nvcc'), kernelFlags, `${sources}/kernels`, '.cu');
}

function twinObjects() {
  return compile('twin', compiler, twinFlags, `${sources}/kernels`, '.cu');
}

function torchObjects(release, libtorch, toolkit) {
  return compile(`torch-${release.torch}`, compiler, torchFlags(libtorch, toolkit), `${sources}/torch`, '.cpp');
}

/** For sources that use libtorch's headers and CUDA's. */
function torchFlags(libtorch, toolkit) {
  const include = join(libtorch.root, 'include');
  const folders = [include, join(include, 'torch/csrc/api/include'), join(toolkit, 'include')];
  return [...hostFlags, ...folders.flatMap((folder) => ['-isystem', folder])];
}

/** The program that runs every kernel beside its twin on a GPU; returns its path. */
export async function buildDeviceTest() {
  const toolkit = await cudaToolkit();
  const testFlags = [...hostFlags, '-isystem', join(toolkit, 'include')];
  const objects = await all(
    // The longest first.
    kernelObjects(toolkit),
    twinObjects(),
    compile('device-test', compiler, testFlags, `${sources}/tests`, '.cpp'),
  );
  const program = join(root, '.cache', 'cuda', 'kernels-on-device');
  run(compiler, ['-o', program, ...objects, ...cudart(toolkit), '-lpthread', '-ldl']);
  return program;
}

/** Sources of the emulated GPU that take the driver's place; the others become part of the CUDA library. */
const emulatedDriver = ['absent', 'driver', 'memory', 'queue', 'runtime'];

/**
 * Builds the emulated GPU for a torch release; returns what a process needs to have it: the `driver` to preload, and the folder of a
 * CUDA `library` for it.
 */
export async function buildEmulatedGpu(release) {
  const libtorch = await requireLibtorch(release);
  const toolkit = await cudaToolkit();
  const [emulator, torch, twin] = await Promise.all([
    compile(`emulator-${release.torch}`, compiler, torchFlags(libtorch, toolkit), `${sources}/emulator`, '.cpp'),
    torchObjects(release, libtorch, toolkit),
    twinObjects(),
  ]);
  const ofDriver = (object) => emulatedDriver.includes(basename(object, '.cpp.o'));
  const folder = join(root, '.cache', 'cuda', 'emulated-gpu');
  mkdirSync(folder, { recursive: true });
  const driver = join(folder, 'libcuda.so.1');
  inPlace(driver, (staging) =>
    run(compiler, ['-shared', '-s', '-o', staging, '-Wl,-soname,libcuda.so.1', ...emulator.filter(ofDriver)]),
  );
  const rest = emulator.filter((object) => !ofDriver(object));
  inPlace(join(folder, libraryName(release)), (staging) => link(staging, [...rest, ...torch, ...twin], toolkit));
  return { driver, library: folder };
}

const all = async (...groups) => (await Promise.all(groups)).flat();

/** Objects that are being made or were, by their folder: several libraries and programs share some. */
const made = new Map();

/** Compiles all files of a folder. */
function compile(name, program, flags, folder, extension) {
  const hash = hashOf([program, ...flags], folder).slice(0, 16);
  const output = join(root, '.cache', 'cuda', `${name}-${hash}`);
  if (!made.has(output)) {
    removeOlder(name, output);
    mkdirSync(output, { recursive: true });
    const files = readdirSync(join(root, folder)).filter((file) => file.endsWith(extension));
    const make = async (file) => {
      const object = join(output, `${file}.o`);
      if (existsSync(object)) return object;
      await inTurn(() => start(program, [...flags, '-c', join(root, folder, file), '-o', `${object}.part`]));
      renameSync(`${object}.part`, object);
      return object;
    };
    made.set(output, Promise.all(files.map(make)));
  }
  return made.get(output);
}

let free = availableParallelism();
const waiting = [];

/** Does some work when there is a core for it. */
async function inTurn(work) {
  if (free > 0) free -= 1;
  else await new Promise((resolve) => waiting.push(resolve));
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) free += 1;
    else next();
  }
}

function start(program, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 2, 2] });
    child.once('error', (error) => reject(new Error(`${program} cannot be run: ${error.message}`)));
    child.once('close', (status) => {
      if (status === 0) resolve();
      else reject(new Error(`\`${[program, ...args].join(' ')}\` failed (exit code ${status})`));
    });
  });
}

/** Objects of sources that have changed since. */
function removeOlder(name, keep) {
  const parent = join(root, '.cache', 'cuda');
  if (!existsSync(parent)) return;
  const older = readdirSync(parent).filter((entry) => entry.replace(/-[0-9a-f]{16}$/, '') === name);
  for (const entry of older) if (join(parent, entry) !== keep) rmSync(join(parent, entry), { recursive: true });
}

/** Of the sources (a folder's own and those that all share) and of how they are compiled. */
function hashOf(flags, folder = `${sources}/kernels`) {
  const hash = hashFiles([...new Set([`${sources}/flatmin_cuda.h`, `${sources}/kernels`, folder])]);
  return createHash('sha256').update(hash).update(flags.join('\0')).digest('hex');
}

/**
 * Links against stubs with torch's SONAMEs: the library names what it needs, and torch's own (a gigabyte) need not be there.
 * What they define is found when the library is opened beside them.
 */
function link(output, objects, toolkit) {
  const stubs = join(root, '.cache', 'cuda', 'stubs');
  mkdirSync(stubs, { recursive: true });
  const paths = needed.map((name) => join(stubs, name));
  for (const [index, path] of paths.entries()) {
    if (!existsSync(path)) run(compiler, ['-shared', '-xc', '/dev/null', '-o', path, `-Wl,-soname,${needed[index]}`]);
  }
  run(compiler, ['-shared', '-s', '-o', output, ...objects, '-Wl,--no-as-needed', ...paths, ...cudart(toolkit)]);
}

function cudart(toolkit) {
  return [join(toolkit, 'lib', 'libcudart.so.13')];
}
