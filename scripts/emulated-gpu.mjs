// `npm run emulated-gpu -- COMMAND...`: runs a command with an emulated GPU, such as `node bin/flatmin.js train --device cuda`. Brings
// what is missing, as `npm run test:cuda` does. For finding errors: it computes on the CPU, slowly.

import { ensureReady } from './bootstrap.mjs';
import { become, say } from './lib/base.mjs';
import { buildEmulatedGpu } from './lib/cuda-library.mjs';
import { cudaLibtorch, emulated } from './lib/emulated-gpu.mjs';
import { usual } from './lib/torch.mjs';

async function main() {
  const [command, ...args] = process.argv.slice(2);
  if (command === undefined) throw new Error('which command? npm run emulated-gpu -- COMMAND...');
  await ensureReady();
  await cudaLibtorch();
  become(command, args, emulated(await buildEmulatedGpu(usual)), process.cwd());
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
