// Runs the commands that README.md shows, so that they keep working: every fenced block marked `sh`, in order, in the
// clone's root. A block after the comment <!-- not run in CI --> is left out (it needs a published package or much time).

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, say } from './lib/base.mjs';

const block = /(<!-- not run in CI -->\s*\n)?```sh\n([\s\S]*?)```/g;

function main() {
  const text = readFileSync(join(root, 'README.md'), 'utf8');
  const commands = [...text.matchAll(block)].filter((match) => match[1] === undefined).map((match) => match[2].trim());
  if (commands.length === 0) throw new Error('README.md shows no commands in blocks marked sh');
  for (const command of commands) {
    say(`$ ${command}`);
    const { status } = spawnSync('bash', ['-euo', 'pipefail', '-c', command], { cwd: root, stdio: ['ignore', 2, 2] });
    if (status !== 0) throw new Error(`README.md shows a command that fails (exit code ${status}):\n${command}`);
  }
  say(`${commands.length} blocks of README.md work`);
}

try {
  main();
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
