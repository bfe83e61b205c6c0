// Weights on the command line: what PyTorch saved is measured, exported and trained further.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { Model, models } from '../src/index.js';
import { flatmin, jsonLines } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';
import { weightsOf } from './support.js';

const example = fileURLToPath(new URL('../examples/fine-tuning.yaml', import.meta.url));
const command = fileURLToPath(new URL('fixtures/command.pt', import.meta.url));
const DIGITS = ['--data', 'digits', '--threads', '1', '--json'];

const folder = temporaryFolder('weights');
let weights: string;

beforeAll(async () => {
  weights = join(folder, 'demo.pt');
  await models.demo({ numClasses: 7, inputShape: [1, 8, 8], seed: 3 }).save(weights);
});

describe('train --weights', () => {
  it('runs the fine-tuning recipe: a new head, frozen statistics, everything else from the file', async () => {
    const runDir = join(folder, 'tuned');
    const small = [
      '--model',
      'demo',
      '--epochs',
      '1',
      '--batch-size',
      '100',
      '--accumulate',
      '50',
      '--train-images',
      '200',
    ];
    const args = ['train', '--config', example, ...DIGITS, ...small, '--weights', weights, '--run-dir', runDir];
    const { code, stdout, stderr } = await flatmin(args);
    expect(stderr).toMatch(/linear\.weight \[7,\d+\] for \[10,\d+\].*start anew/);
    expect(code).toBe(0);
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'end', reason: 'finished', result: { steps: 2 } });
    const [before, after] = [
      await weightsOf(await Model.load(weights)),
      await weightsOf(await Model.load(join(runDir, 'checkpoints/last/model.safetensors'))),
    ];
    for (const name of Object.keys(before)) {
      if (name.includes('running_') || name.includes('num_batches')) expect(after[name], name).toEqual(before[name]);
      else if (!name.startsWith('linear.')) expect(after[name], name).not.toEqual(before[name]);
    }
    // The step is small: weights stay near those of the file.
    const [first] = Object.keys(before) as [string];
    for (const [index, value] of (before[first] as number[]).entries())
      expect(Math.abs((after[first]?.[index] as number) - value)).toBeLessThan(0.05);
  }, 60_000);

  it('refuses weights of another model', async () => {
    const { code, stderr } = await flatmin([
      'train',
      ...DIGITS,
      '--model',
      'resnet20',
      '--weights',
      weights,
      '--no-save',
    ]);
    expect(stderr).toMatch(/holds a 'demo'/);
    expect(code).toBe(2);
  });

  it('refuses a pickle that runs a command', async () => {
    const { code, stderr } = await flatmin(['train', ...DIGITS, '--weights', command, '--no-save']);
    expect(stderr).toMatch(/ERR_FLATMIN_FORMAT.*posix\.system/);
    expect(code).toBe(1);
    expect(readdirSync('.')).not.toContain('executed-by-a-pickle');
  });
});

describe('export', () => {
  it.each(['safetensors', 'pt', 'pth'])('writes .%s that is the same model again', async (ending) => {
    const out = join(folder, `exported.${ending}`);
    const { code, stdout } = await flatmin(['export', '--weights', weights, '--out', out, '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: 'demo', out });
    expect(await weightsOf(await Model.load(out))).toEqual(await weightsOf(await Model.load(weights)));
  });

  it('refuses an ending that it does not know', async () => {
    const { code, stderr } = await flatmin(['export', '--weights', weights, '--out', join(folder, 'model.h5')]);
    expect(stderr).toMatch(/--out.*\.safetensors.*model\.h5/);
    expect(code).toBe(2);
  });
});

describe('eval', () => {
  it('measures a .pt with a spec, and one of PyTorch with --model', async () => {
    const full = join(folder, 'ten.pt');
    await models.demo({ seed: 1 }).save(full);
    const { code, stdout } = await flatmin(['eval', '--weights', full, '--data', 'digits', '--limit', '50', '--json']);
    expect(code).toBe(0);
    const plain = JSON.parse(stdout) as { loss: number };
    expect(plain).toMatchObject({ model: 'demo', count: 50 });
    const flags = ['--data', 'digits', '--limit', '50', '--mirror', '--json'];
    const mirrored = await flatmin(['eval', '--weights', full, ...flags]);
    expect((JSON.parse(mirrored.stdout) as { loss: number }).loss).not.toBeCloseTo(plain.loss, 5);
    const foreign = await flatmin(['eval', '--weights', command, '--data', 'digits', '--json']);
    expect([foreign.code, foreign.stdout]).toEqual([2, '']);
    expect(foreign.stderr).toMatch(/--model/);
  });
});
