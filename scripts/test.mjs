// `npm test`: makes the clone ready, then runs vitest; what follows `npm test --` goes to vitest.

import { join } from 'node:path';
import { ensureReady } from './bootstrap.mjs';
import { become, root, say } from './lib/base.mjs';

async function main() {
  await ensureReady();
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  become(process.execPath, [vitest, 'run', ...process.argv.slice(2)]);
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
