// `npm run build:cuda [-- --torch 2.11]`: the CUDA library for a torch release, beside the addon for it. Brings nvcc and the
// headers; needs no GPU.

import { ensureLibtorch } from './bootstrap.mjs';
import { say } from './lib/base.mjs';
import { buildCudaLibrary } from './lib/cuda-library.mjs';
import { takeRelease } from './lib/torch.mjs';

async function main() {
  const { release } = takeRelease(process.argv.slice(2));
  await ensureLibtorch(release);
  say(await buildCudaLibrary(release));
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
