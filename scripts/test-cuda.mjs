// `npm run test:cuda`: everything of the CUDA library that can be tested without a GPU, and with one its kernels, too. Brings what is
// missing: nvcc (100 MB), the libtorch of both releases (0.5 GB each) and the full CUDA libtorch (2.5 GB).
//
//   both torch releases   the library builds, and holds machine code for each GPU that it promises, and PTX
//   the twins             every kernel, compiled for the CPU, against torch-ext's CPU kernels and libtorch's operations
//   the real libtorch     the library opens beside libtorch_cuda, every symbol found, and says what is there
//   an emulated GPU       training, measures and every optimizer, by libtorch_cuda's own allocator, streams and graphs
//   a GPU, where one is   every kernel against its twin, and training against the CPU's

import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { ensureLibtorch, ensureReady } from './bootstrap.mjs';
import { importDist, root, run, say } from './lib/base.mjs';
import { buildCudaLibrary, buildDeviceTest, buildEmulatedGpu } from './lib/cuda-library.mjs';
import { cudaLibtorch, emulated } from './lib/emulated-gpu.mjs';
import { architectures } from './lib/fatbin.mjs';
import { buildEnvironment } from './lib/libtorch.mjs';
import { cudaToolkit } from './lib/toolkit.mjs';
import { releases, usual } from './lib/torch.mjs';

const expected = ['sm_80', 'sm_90', 'compute_90'];

async function main() {
  await ensureReady();
  const brought = bringLibtorch();
  // What compiles without libtorch does so while that comes.
  const [program, library, cuda, gpu] = await Promise.all([
    buildDeviceTest(),
    brought.then(buildLibraries),
    brought.then(cudaLibtorch),
    brought.then(() => buildEmulatedGpu(usual)),
  ]);
  await cargoTests(library, cuda);
  onEmulatedGpu(gpu);
  await onDevice(program);
  say('test:cuda: passed');
}

async function bringLibtorch() {
  for (const release of releases) await ensureLibtorch(release);
}

/** The libraries of all releases; returns the usual one's path. */
async function buildLibraries() {
  const libraries = await Promise.all(releases.map(buildCudaLibrary));
  for (const library of libraries) checkArchitectures(library);
  return libraries[releases.indexOf(usual)];
}

function checkArchitectures(library) {
  const found = architectures(library);
  const list = Object.entries(found).map(([name, count]) => `${name} in ${count}`);
  say(`${library}: fat binaries with ${list.join(', ')}`);
  const most = Math.max(...Object.values(found));
  const missing = expected.filter((name) => found[name] !== most);
  if (missing.length > 0) throw new Error(`${library} lacks code for ${missing.join(', ')}`);
}

/** The tests of `cuda` modules, with those that open the library. The crates are those that CI tests, so that none is compiled anew. */
async function cargoTests(library, cuda) {
  const environment = await buildEnvironment();
  const env = {
    ...environment,
    LD_LIBRARY_PATH: `${cuda}:${environment.LD_LIBRARY_PATH}`,
    FLATMIN_TEST_LIBTORCH_CUDA: cuda,
    FLATMIN_TEST_CUDA_LIBRARY: dirname(library),
  };
  const crates = ['--workspace', '--exclude', 'flatmin-node', '--exclude', 'flatmin-preload'];
  run('cargo', ['test', '--release', ...crates, '--lib', 'cuda::', '--', '--include-ignored'], env);
}

/** Files of `npm test` whose models are then made on the GPU. */
const testsOnGpu = [
  'analysis',
  'batches',
  'bfloat16',
  'callbacks',
  'float16',
  'goldens',
  'gpu',
  'model',
  'onnx',
  'optimizer',
  'run',
  'tensorboard',
  'torch-script',
  'trainer',
  'training-options',
  'variants',
  'weights',
];

function onEmulatedGpu(gpu) {
  const env = emulated(gpu);
  vitest(testsOnGpu, env);
  for (const kind of ['null', 'others'])
    vitest(['gpu'], { ...env, FLATMIN_EMULATED_GPU_EAGER: kind }, ['-t', 'ends where the CPU does']);
}

function vitest(names, env, options = []) {
  const files = names.map((name) => `__test__/${name}.test.ts`);
  const program = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  run(process.execPath, [program, 'run', ...files, ...options], { ...env, FLATMIN_TEST_DEVICE: 'cuda' });
}

async function onDevice(program) {
  const { hasNvidiaDriver } = await importDist('native/driver.js');
  if (!hasNvidiaDriver()) {
    say(`no GPU here: ${program} was built and not run`);
    return;
  }
  const env = { ...process.env, LD_LIBRARY_PATH: join(await cudaToolkit(), 'lib') };
  run(program, [], env);
  vitest(['gpu'], process.env);
  const sanitizer = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(answers);
  if (sanitizer === undefined) {
    say('compute-sanitizer was not found; the kernels ran without it');
    return;
  }
  for (const tool of ['memcheck', 'racecheck', 'initcheck', 'synccheck']) {
    const options = tool === 'initcheck' ? ['--uninitialised'] : [];
    run(sanitizer, ['--tool', tool, '--error-exitcode', '1', program, ...options], env);
  }
}

function answers(program) {
  return spawnSync(program, ['--version']).status === 0;
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
