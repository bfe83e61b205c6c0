// Training through the command line on the digits: events, run folder, resume, Ctrl-C, and what eval and predict make of it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type CliResult, flatmin, jsonLines } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';
import { greyPng } from './support/png.js';

const SETTINGS = ['--data', 'digits', '--seed', '1', '--threads', '1', '--json'];

const folder = temporaryFolder('train');
const runDir = join(folder, 'run');
let trained: CliResult;
let events: Record<string, unknown>[];

beforeAll(async () => {
  trained = await flatmin(['train', ...SETTINGS, '--optimizer', 'asam', '--epochs', '2', '--run-dir', runDir]);
  events = jsonLines(trained.stdout);
}, 120_000);
const ofType = (list: Record<string, unknown>[], type: string) => list.filter((event) => event.type === type);

describe('train --json', () => {
  it('prints one event a line, the end last, and nothing on stderr', () => {
    expect(trained.stderr).toBe('');
    expect(trained.code).toBe(0);
    expect(events[0]).toMatchObject({ type: 'start', epochs: 2, seed: 1, runDir });
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'finished', result: { epochs: 2, steps: 22 } });
  });

  it('tells losses and accuracies of each epoch', () => {
    const epochs = ofType(events, 'epoch');
    expect(epochs.map(({ epoch }) => epoch)).toEqual([1, 2]);
    for (const { train, test, imagesPerSecond } of epochs as {
      train: object;
      test: object;
      imagesPerSecond: number;
    }[]) {
      for (const scores of [train, test] as { loss: number; accuracy: number }[]) {
        expect(scores.loss).toBeGreaterThan(0);
        expect(scores.accuracy).toBeGreaterThanOrEqual(0);
        expect(scores.accuracy).toBeLessThanOrEqual(1);
      }
      expect(imagesPerSecond).toBeGreaterThan(0);
    }
  });

  it('leaves a run folder with options, events, a checkpoint and a report', () => {
    for (const name of [
      'options.json',
      'config.json',
      'events.jsonl',
      'report.html',
      'checkpoints/last/model.safetensors',
    ]) {
      expect(existsSync(join(runDir, name)), name).toBe(true);
    }
    expect(readFileSync(join(runDir, 'report.html'), 'utf8')).toContain('ASAM: demo on digits');
  });

  it('gives the same result for the same seed, and writes nothing with --no-save', async () => {
    const again = await flatmin(['train', ...SETTINGS, '--optimizer', 'asam', '--epochs', '2', '--no-save'], {
      cwd: folder,
    });
    expect(existsSync(join(folder, 'runs'))).toBe(false);
    const scores = (list: Record<string, unknown>[]) =>
      ofType(list, 'epoch').map(({ train, test }) => ({ train, test }));
    expect(scores(jsonLines(again.stdout))).toEqual(scores(events));
  });

  it('takes its options from a file, below the flags', async () => {
    const config = join(folder, 'train.yaml');
    writeFileSync(config, 'optimizer: sgd\nepochs: 5\nbatchSize: 500\nsave: false\ntest: false\n');
    const { code, stdout } = await flatmin(['train', '--config', config, '--epochs', '1', '--json']);
    expect(code).toBe(0);
    const lines = jsonLines(stdout);
    // 1,297 images in batches of 500.
    expect(lines.at(-1)).toMatchObject({ type: 'end', result: { epochs: 1, steps: 3, test: null } });
  });
});

it('takes schedules and a warm-up from flags', async () => {
  const { code, stdout, stderr } = await flatmin([
    ...['train', ...SETTINGS, '--optimizer', 'sam', '--epochs', '2', '--no-save', '--warmup-epochs', '1'],
    ...['--schedule', '{type: cosine, by: epoch, minFactor: 0.5}', '--warmup-start', '0.1', '--rho-schedule', 'lr'],
  ]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const epochs = ofType(jsonLines(stdout), 'epoch') as unknown as { lr: number; rho: number }[];
  // lr 0.1, rho 0.05: the first epoch is below the cosine's end, the second at its start.
  for (const [index, [lr, rho]] of [[0.01, 0] as const, [0.1, 0.05] as const].entries()) {
    expect(epochs[index]?.lr).toBeCloseTo(lr, 12);
    expect(epochs[index]?.rho).toBeCloseTo(rho, 12);
  }
}, 60_000);

describe('train --resume', () => {
  it('goes on with the options of the run, to the result of an uninterrupted one', async () => {
    const interrupted = join(folder, 'interrupted');
    const whole = await flatmin([
      'train',
      ...SETTINGS,
      '--optimizer',
      'sam',
      '--schedule',
      'constant',
      '--epochs',
      '2',
      '--no-save',
    ]);
    const first = await flatmin([
      'train',
      ...SETTINGS,
      '--optimizer',
      'sam',
      '--schedule',
      'constant',
      '--epochs',
      '1',
      '--run-dir',
      interrupted,
    ]);
    expect(first.code).toBe(0);
    const { code, stdout } = await flatmin(['train', '--resume', interrupted, '--epochs', '2', '--json']);
    expect(code).toBe(0);
    const last = (text: string) =>
      ofType(jsonLines(text), 'epoch').at(-1) as { epoch: number; train: object; test: object };
    expect(last(stdout).epoch).toBe(2);
    expect(last(stdout).train).toEqual(last(whole.stdout).train);
    expect(last(stdout).test).toEqual(last(whole.stdout).test);
  }, 60_000);
});

it('Ctrl-C stops after the step, with a checkpoint and code 130', async () => {
  const stopped = join(folder, 'stopped');
  let sent = false;
  const { code, stdout, stderr } = await flatmin(['train', ...SETTINGS, '--epochs', '100000', '--run-dir', stopped], {
    onOutput(text, kill) {
      if (sent || !text.includes('"type":"epoch"')) return;
      sent = true;
      kill('SIGINT');
    },
  });
  expect(stderr).toContain('stopping');
  expect(code).toBe(130);
  expect(jsonLines(stdout).at(-1)).toMatchObject({ type: 'end', reason: 'stopped' });
  expect(existsSync(join(stopped, 'checkpoints/last/model.safetensors'))).toBe(true);
}, 60_000);

it('report makes a page from run folders, and names what is no run', async () => {
  const out = join(folder, 'pages', 'two.html');
  const { code, stdout } = await flatmin(['report', runDir, join(folder, 'stopped'), '--out', out, '--json']);
  expect(code).toBe(0);
  const { report, title, runs } = JSON.parse(stdout) as { report: string; title: string; runs: object[] };
  expect([report, title]).toEqual([out, 'ASAM: demo on digits']);
  expect(runs).toMatchObject([
    { group: 'ASAM epochs=2 warmupEpochs=0.2', seed: 1, epochs: 2, path: runDir, state: 'finished' },
    { group: 'ASAM epochs=100000 warmupEpochs=1', seed: 1, state: 'stopped' },
  ]);
  const page = readFileSync(out, 'utf8');
  expect(page).toContain('ASAM epochs=100000 warmupEpochs=1, seed 1: stopped.');
  // The machine that the runs were made on.
  expect(page).toContain(process.version);
  const wrong = await flatmin(['report', join(folder, 'nowhere')]);
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toMatch(/error ERR_FLATMIN_PATH: .*nowhere: found no run/);
});

describe('eval', () => {
  it('of a run folder repeats the test result of the training', async () => {
    const { code, stdout, stderr } = await flatmin(['eval', '--weights', runDir, '--json']);
    expect(code).toBe(0);
    expect(stderr).toBe('');
    const { test } = (events.at(-1) as { result: { test: { loss: number; accuracy: number; top5: number } } }).result;
    const result = JSON.parse(stdout) as { loss: number };
    expect(result).toMatchObject({
      model: 'demo',
      data: 'digits',
      count: 500,
      accuracy: test.accuracy,
      top5: test.top5,
    });
    expect(result.loss).toBeCloseTo(test.loss, 5);
  });

  it('refuses a model other than the one in the file', async () => {
    const { code, stderr } = await flatmin(['eval', '--weights', runDir, '--model', 'resnet20']);
    expect(code).toBe(2);
    expect(stderr).toContain("holds a 'demo'");
  });
});

describe('predict', () => {
  it('names the likely classes of image files', async () => {
    const image = join(folder, 'digit.png');
    writeFileSync(
      image,
      greyPng(
        8,
        Uint8Array.from({ length: 64 }, (_, index) => (index % 8 === 4 ? 255 : 0)),
      ),
    );
    const { code, stdout } = await flatmin(['predict', image, image, '--weights', runDir, '--top-k', '3', '--json']);
    expect(code).toBe(0);
    const results = JSON.parse(stdout) as {
      image: string;
      predictions: { label: number; name: string; probability: number }[];
    }[];
    expect(results.map((result) => result.image)).toEqual([image, image]);
    const [best, second] = results[0]?.predictions ?? [];
    expect(results[0]?.predictions).toHaveLength(3);
    expect(best?.probability).toBeGreaterThanOrEqual(second?.probability ?? 1);
    expect(best?.name).toBe(String(best?.label));
  });

  it('names a file that is no image', async () => {
    const { code, stderr } = await flatmin(['predict', join(runDir, 'options.json'), '--weights', runDir]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/error ERR_FLATMIN_FORMAT: .*options\.json/);
  });
});

it('the demo compares three optimizers and writes its report', async () => {
  const out = join(folder, 'demo.html');
  const { code, stdout } = await flatmin(['demo', '--epochs', '1', '--seeds', '5', '--out', out, '--json']);
  expect(code).toBe(0);
  const { groups } = JSON.parse(stdout) as {
    groups: { name: string; seeds: number[]; testAccuracy: { mean: number } }[];
  };
  expect(groups.map(({ name }) => name)).toEqual(['SGD', 'SAM rho=0.5', 'ASAM rho=4']);
  for (const { seeds, testAccuracy } of groups) {
    expect(seeds).toEqual([5]);
    expect(testAccuracy.mean).toBeGreaterThan(0);
    expect(testAccuracy.mean).toBeLessThanOrEqual(1);
  }
  expect(readFileSync(out, 'utf8')).toContain('Training on noisy labels');
}, 60_000);
