// The examples, run as their first lines tell, with few epochs. Those of CIFAR and ImageNet need their data sets and are only checked
// for types.

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

  it('label-noise.ts compares three optimizers', { timeout }, async () => {
    const lines = (await run('label-noise.ts', '1', '1')).trim().split('\n').slice(1);
    expect(lines.map((line) => line.split(':')[0])).toEqual(['SGD', 'SAM, rho 0.5', 'ASAM, rho 4']);
    for (const line of lines) expect(line.match(/[\d.]+ %/g)).toHaveLength(2);
  });

  it('scale-invariance.ts rescales a net; its function and its adaptive sharpness stay', { timeout }, async () => {
    const output = await run('scale-invariance.ts', '1');
    const column = (name: string) =>
      [...output.matchAll(new RegExp(`, ${name} ([\\d.]+)`, 'g'))].map((match) => match[1]);
    expect(new Set([...output.matchAll(/test loss ([\d.]+)/g)].map((match) => match[1])).size).toBe(1);
    expect(column('adaptive sharpness')).toHaveLength(3);
    expect(new Set(column('adaptive sharpness')).size).toBe(1);
    expect(new Set(column('sharpness')).size).toBe(3);
  });

  it('correlation-study.ts ranks nets', { timeout }, async () => {
    const output = await run('correlation-study.ts', '1', '1.5');
    expect(output.match(/gap -?[\d.]+/g)).toHaveLength(4);
    expect(output).toMatch(/tau of adaptive with the gap: -?[\d.]+ \(n = 4\)/);
  });
});
