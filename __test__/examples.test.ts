// The examples, run as their first lines tell, with few epochs. Those of CIFAR and ImageNet need their data sets and are only checked for types.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url);
const timeout = 120_000;

async function run(example: string, ...args: string[]): Promise<string> {
  const command = ['--no-warnings', '--loader', 'ts-node/esm', `examples/${example}`, ...args];
  return (await promisify(execFile)(process.execPath, command, { cwd: root, timeout })).stdout;
}

describe('examples', () => {
  it('four-lines.ts trains with ASAM in a loop of its own', { timeout }, async () => {
    const losses = [...(await run('four-lines.ts', '2')).matchAll(/loss ([\d.]+)/g)].map((match) => Number(match[1]));
    expect(losses).toHaveLength(2);
    expect(losses[1]).toBeLessThan(losses[0] as number);
  });

  it('own-model.ts trains, saves, loads and predicts', { timeout }, async () => {
    const output = await run('own-model.ts', '2');
    expect(output.match(/validation accuracy/g)).toHaveLength(2);
    expect(output).toMatch(/a vertical line: \[/);
  });
});
