// cargo with the libtorch of this clone: `node scripts/cargo.mjs test --release -p flatmin-nn`.

import { ensureReady } from './bootstrap.mjs';
import { become, say } from './lib/base.mjs';
import { buildEnvironment, libtorchForBuild } from './lib/libtorch.mjs';
import { requireBuildTools } from './lib/tools.mjs';

async function main() {
  await ensureReady({ native: false });
  requireBuildTools();
  if ((await libtorchForBuild()) === undefined) {
    throw new Error('libtorch is missing; bring it with: node bin/flatmin.js setup --device cpu');
  }
  become('cargo', process.argv.slice(2), await buildEnvironment());
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
