// The examples, run as their first lines tell, with few epochs. Those of ImageNet run on the 200 photographs of the shared data
// where they are there; CIFAR's needs its data set and is only checked for types.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { flatmin, jsonLines } from './support/cli.js';
import { sharedData } from './support/shared.js';

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

const photos = sharedData('imagenet-sample');

describe.skipIf(photos === undefined)('examples on 200 photographs of ImageNet', () => {
  let folder: string;

  /** The photographs are training and test set at once. */
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flatmin-imagenet-'));
    mkdirSync(join(folder, 'data'));
    for (const part of ['train', 'val']) symlinkSync(photos as string, join(folder, 'data', part));
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  const small = ['--size', '32', '--epochs', '2', '--batch-size', '100'];

  it('imagenet.ts trains at two sizes and tells top-1 and top-5', { timeout }, async () => {
    const runDir = join(folder, 'script');
    const args = [join(folder, 'data'), ...small, '--model', 'resnet18', '--from', '16', '--run-dir', runDir];
    const lines = (await run('imagenet.ts', ...args)).trim().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^epoch \d: top-1 0\.\d+, top-5 0\.\d+, \d+ images\/s, waited/);
    const events = jsonLines(readFileSync(join(runDir, 'events.jsonl'), 'utf8'));
    expect(events.flatMap(({ imageSize }) => imageSize ?? [])).toEqual([16, 32]);
    expect(existsSync(join(runDir, 'resnet18.safetensors'))).toBe(true);
  });

  it('imagenet.yaml trains a net of 200 classes and tests it', { timeout }, async () => {
    const config = ['--config', 'examples/imagenet.yaml', '--data-dir', join(folder, 'data'), '--json'];
    const own = ['--model', 'resnet18', '--resize', '36', '--warmup-epochs', '1', '--run-dir', join(folder, 'config')];
    const { code, stdout, stderr } = await flatmin(['train', ...config, ...small, ...own]);
    expect(code, stderr).toBe(0);
    const epochs = jsonLines(stdout).filter(({ type }) => type === 'epoch');
    expect(epochs).toMatchObject(Array(2).fill({ test: { count: 200, top5: expect.any(Number) }, badImages: 0 }));
  });

  it('imagenet-sample.yaml trains, and eval looks at the size that the model was made for', { timeout }, async () => {
    const runDir = join(folder, 'sample');
    const data = ['--data-dir', photos as string, '--json'];
    const config = ['--config', 'examples/imagenet-sample.yaml', '--max-steps', '2', '--run-dir', runDir];
    const trained = await flatmin(['train', ...config, ...data]);
    expect(trained.code, trained.stderr).toBe(0);
    const where = ['--weights', runDir, '--data', 'imagefolder', '--resize', '64', '--split', 'train'];
    const measured = await flatmin(['eval', ...where, ...data]);
    expect(measured.code, measured.stderr).toBe(0);
    expect(JSON.parse(measured.stdout)).toMatchObject({ model: 'resnet18', count: 200 });
  });
});
