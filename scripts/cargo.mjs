// cargo with the libtorch of this clone: `node scripts/cargo.mjs test --release -p flatmin-nn`; with `--torch 2.11` against that
// release.

import { ensureReady } from './bootstrap.mjs';
import { become, say } from './lib/base.mjs';
import { buildEnvironment, libtorchForBuild } from './lib/libtorch.mjs';
import { requireBuildTools } from './lib/tools.mjs';
import { takeRelease, workspace } from './lib/torch.mjs';

async function main() {
  await ensureReady({ native: false });
  requireBuildTools();
  const { release, rest } = takeRelease(process.argv.slice(2));
  if ((await libtorchForBuild(release)) === undefined) {
    throw new Error(
      `libtorch ${release.torch} is missing; bring it with: node scripts/bootstrap.mjs --torch ${release.torch}`,
    );
  }
  const { folder, env } = workspace(release);
  become('cargo', rest, { ...(await buildEnvironment(release)), ...env }, folder);
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
