// cargo with the libtorch of this clone: `node scripts/cargo.mjs test --release -p flatmin-nn`; with `--torch 2.11` against that
// release.

import { ensureReady } from './bootstrap.mjs';
import { become, say } from './lib/base.mjs';
import { buildEnvironment, requireLibtorch } from './lib/libtorch.mjs';
import { requireBuildTools } from './lib/tools.mjs';
import { takeRelease, workspace } from './lib/torch.mjs';

async function main() {
  await ensureReady({ native: false });
  requireBuildTools();
  const { release, rest } = takeRelease(process.argv.slice(2));
  await requireLibtorch(release);
  const { folder, env } = workspace(release);
  become('cargo', rest, { ...(await buildEnvironment(release)), ...env }, folder);
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
