#!/usr/bin/env node
// The command line's entry. In a clone it first sees to it that what the command needs is installed and built,
// which takes a few milliseconds when it is; in the published package it goes straight to the compiled CLI.
// FLATMIN_BOOTSTRAP=off skips the check, for scripts that have just made it.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const bootstrap = new URL('../scripts/bootstrap.mjs', import.meta.url);

async function main() {
  if (process.env.FLATMIN_BOOTSTRAP !== 'off' && existsSync(fileURLToPath(bootstrap))) {
    const { ensureReady, needsOnlyTypeScript } = await import(bootstrap.href);
    await ensureReady({ native: !needsOnlyTypeScript(process.argv.slice(2)) });
  }
  const cli = await import('../dist/cli/main.js');
  await cli.main();
}

main().catch((error) => {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
});
