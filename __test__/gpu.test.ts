// Training on a GPU: each run must end where the same run on the CPU ends. `npm run test:cuda` runs these on an emulated GPU; on a
// real one: FLATMIN_TEST_DEVICE=cuda npm test -- gpu.test

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  Adam,
  AdamW,
  ASAM,
  type Dataset,
  datasets,
  GSAM,
  layers,
  load,
  Model,
  type Optimizer,
  SAM,
  SGD,
  Tensor,
  Trainer,
  type TrainerOptions,
} from '../src/index.js';
import { packageRoot } from '../src/native/paths.js';
import { uniform } from './goldens/formula.js';
import { temporaryFolder } from './support/folder.js';
import { expectClose, weightsOf } from './support.js';

const device = process.env.FLATMIN_TEST_DEVICE as 'cuda' | undefined;
const emulated = process.env.FLATMIN_EMULATED_GPUS !== undefined;
const folder = temporaryFolder('gpu');
let digits: Dataset;

beforeAll(() => {
  // Batches of 64, 64, 64 and 8.
  digits = datasets.digits().take(200);
});

function net(options: { device: 'cpu' | 'cuda'; dtype?: 'float64' | 'bfloat16' }): Model {
  const list = [
    layers.conv2d(6, 3, { padding: 1, bias: false }),
    layers.batchNorm2d(),
    layers.relu(),
    layers.residual([layers.conv2d(6, 3, { padding: 1 }), layers.batchNorm2d()]),
    layers.relu(),
    layers.maxPool2d(2),
    layers.flatten(),
    layers.dropout(0.2),
    layers.linear(10),
  ];
  return Model.sequential(list, { inputShape: [1, 8, 8], seed: 1, dtype: 'float64', ...options });
}

const sgd = (model: Model) => new SGD(model, { lr: 0.05, momentum: 0.9, weightDecay: 5e-4 });
const asam = (model: Model) => new ASAM(sgd(model), { rho: 0.3 });

async function trained(
  where: 'cpu' | 'cuda',
  optimizer: (model: Model) => Optimizer,
  options: Partial<TrainerOptions> = {},
) {
  const model = net({ device: where });
  const trainer = new Trainer({
    ...{ model, optimizer: optimizer(model), train: digits, epochs: 3, batchSize: 64, seed: 7, test: digits },
    ...options,
  });
  const history = await trainer.fit();
  return { history, weights: await weightsOf(model) };
}

type Trained = Awaited<ReturnType<typeof trained>>;

/** Up to the order of sums. */
function expectSame(found: Trained, expected: Trained) {
  const losses = ({ history }: Trained) =>
    history.epochs.flatMap(({ train, test, sharpness }) => [train.loss, test?.loss ?? 0, sharpness ?? 0]);
  for (const [index, loss] of losses(expected).entries())
    expect(losses(found)[index], `loss ${index}`).toBeCloseTo(loss, 9);
  expect(found.history.epochs.map(({ train }) => train.accuracy)).toEqual(
    expected.history.epochs.map(({ train }) => train.accuracy),
  );
  for (const [name, values] of Object.entries(expected.weights))
    for (const [index, value] of values.entries())
      expect(found.weights[name]?.[index], `${name}[${index}]`).toBeCloseTo(value, 8);
}

const optimizers: Record<string, (model: Model) => Optimizer> = {
  SGD: sgd,
  Adam: (model) => new Adam(model, { lr: 0.01 }),
  AdamW: (model) => new AdamW(model, { lr: 0.01, clip: 0.5 }),
  SAM: (model) => new SAM(sgd(model), { rho: 0.1 }),
  'SAM in the ball of p = 3': (model) => new SAM(sgd(model), { rho: 0.1, p: 3 }),
  'SAM in the ball of p = inf': (model) => new SAM(sgd(model), { rho: 0.002, p: 'inf' }),
  'SAM with statistics of both passes': (model) => new SAM(sgd(model), { rho: 0.1, batchNorm: 'both' }),
  'SAM with fresh masks': (model) => new SAM(sgd(model), { rho: 0.1, masks: 'fresh' }),
  'SAM with restoration by subtraction': (model) => new SAM(sgd(model), { rho: 0.1, restore: 'subtract' }),
  'SAM at every third step': (model) => new SAM(sgd(model), { rho: 0.1, interval: 3 }),
  'SAM of micro-batches': (model) => new SAM(sgd(model), { rho: 0.1, microBatch: 16 }),
  'SAM around AdamW': (model) => new SAM(new AdamW(model, { lr: 0.01 }), { rho: 0.1 }),
  ASAM: asam,
  'ASAM by filter': (model) => new ASAM(sgd(model), { rho: 0.3, scale: 'filter' }),
  GSAM: (model) => new GSAM(sgd(model), { rho: 0.1 }),
};

const ways: Record<string, Partial<TrainerOptions>> = {
  'images that lie there, cropped, mirrored and cut out': { augment: { padCrop: 1, flip: true, cutout: 3 } },
  'images of the loader': { augment: { colorJitter: { brightness: 0.5 } } },
  mixup: { augment: { mixup: 0.5 } },
  cutmix: { augment: { cutmix: 1, flip: true } },
  'label smoothing and the cosine schedule': {
    loss: { type: 'crossEntropy', labelSmoothing: 0.1 },
    schedule: 'cosine',
  },
  'class weights': { loss: { type: 'crossEntropy', classWeights: [1, 2, 1, 2, 1, 2, 1, 2, 1, 2] } },
  'the focal loss': { loss: 'focal' },
  'a mean squared error': { loss: 'mse' },
  accumulation: { accumulate: 24 },
  EMA: { average: { type: 'ema', decay: 0.9 } },
  SWA: { average: { type: 'swa', startEpoch: 2 } },
  'a validation set': { validation: 0.2 },
  'loader threads': { augment: { colorJitter: { contrast: 0.5 } }, loaderThreads: 2 },
};

describe.skipIf(device === undefined)('training on a GPU ends where the CPU does', () => {
  beforeAll(() => load({ device: 'cuda', cuda: { deterministic: true } }));

  it.each(Object.keys(optimizers))('with %s', async (name) => {
    const optimizer = optimizers[name] as (typeof optimizers)[string];
    expectSame(await trained('cuda', optimizer), await trained('cpu', optimizer));
  });

  it.each(Object.keys(ways))('with %s', async (name) => {
    const found = await trained('cuda', asam, ways[name]);
    expectSame(found, await trained('cpu', asam, ways[name]));
    // All others are replayed from a recording.
    expect(found.history.epochs.at(-1)?.eager !== undefined).toBe(name === 'accumulation');
  });

  it('in bfloat16, closely', async () => {
    const losses = async (where: 'cpu' | 'cuda') => {
      const model = net({ device: where, dtype: 'bfloat16' });
      const trainer = new Trainer({ model, optimizer: asam(model), train: digits, epochs: 3, batchSize: 64 });
      return (await trainer.fit()).epochs.map(({ train }) => train.loss);
    };
    const [found, expected] = [await losses('cuda'), await losses('cpu')];
    for (const [index, loss] of expected.entries())
      expect(Math.abs((found[index] as number) / loss - 1)).toBeLessThan(0.01);
  });

  it('with a TorchScript model, which may then be saved for any device', async () => {
    const images = (step: number) => Tensor.from(uniform(`images ${step}`, 8 * 32), [8, 2, 4, 4], { dtype: 'float64' });
    const labels = [0, 1, 0, 1, 0, 1, 0, 1];
    const steps = async (where: 'cpu' | 'cuda') => {
      const open = (file: string, device: 'cpu' | 'cuda') =>
        Model.fromTorchScript(file, { inputShape: [2, 4, 4], dtype: 'float64', device });
      const model = await open(join(packageRoot, '__test__/fixtures/small-script.pt'), where);
      const optimizer = asam(model);
      for (let step = 0; step < 5; step++) await optimizer.step({ images: images(step), labels });
      const weights = await weightsOf(model);
      const saved = join(folder, `${where}.pt`);
      await model.save(saved);
      expect(await weightsOf(await open(saved, 'cpu'))).toEqual(weights);
      return weights;
    };
    const [found, expected] = [await steps('cuda'), await steps('cpu')];
    for (const [name, values] of Object.entries(expected)) expectClose(found[name] ?? [], values);
  });

  it("goes on from a checkpoint, its own bit for bit and the CPU's closely", async () => {
    const whole = await trained('cuda', asam, { epochs: 4 });
    for (const where of ['cuda', 'cpu'] as const) {
      const runDir = join(folder, `half-${where}`);
      const options = { epochs: 4, runDir };
      await trained(where, asam, { ...options, maxSteps: 8 });
      const model = net({ device: 'cuda' });
      const trainer = new Trainer({
        ...{ model, optimizer: asam(model), train: digits, batchSize: 64, seed: 7, test: digits },
        ...options,
      });
      const history = await trainer.resume(runDir);
      const resumed = { history: { ...history, epochs: history.epochs.slice(-1) }, weights: await weightsOf(model) };
      const last = { ...whole, history: { ...whole.history, epochs: whole.history.epochs.slice(-1) } };
      if (where === 'cuda') expect(resumed.weights).toEqual(whole.weights);
      expectSame(resumed, last);
    }
  });

  it('skips a step whose gradient is not finite, and leaves weights and state', async () => {
    const model = net({ device: 'cuda' });
    const optimizer = asam(model);
    const images = (value: number) => Tensor.from(new Float64Array(64 * 64).fill(value), [64, 1, 8, 8]);
    const labels = Array.from({ length: 64 }, (_, index) => index % 10);
    // Queued three times, then recorded.
    for (let step = 0; step < 5; step++) await optimizer.step({ images: images(step / 5), labels });
    const before = await weightsOf(model);
    expect((await optimizer.step({ images: images(Number.NaN), labels })).finite).toBe(false);
    expect(await weightsOf(model)).toEqual(before);
    expect((await optimizer.step({ images: images(0.5), labels })).finite).toBe(true);
  });

  it('takes no more memory with each run', async () => {
    const memory = async () => {
      using model = net({ device: 'cuda' });
      const trainer = new Trainer({ model, optimizer: asam(model), train: digits, epochs: 2, batchSize: 64 });
      return (await trainer.fit()).epochs.at(-1)?.deviceMemoryBytes;
    };
    const first = await memory();
    for (let run = 0; run < 3; run++) expect(await memory()).toBe(first);
  });
});

interface Counts {
  queued: number;
  waits: number;
  recordings: number;
  replays: number;
  recorded: Record<string, number>;
}

let runs = 0;

/** A run of the command line on the emulated GPU: what it asked of it, and its last epoch. */
async function counted(steps: number, env: NodeJS.ProcessEnv = {}, ...options: string[]) {
  const runDir = join(folder, `run-${++runs}`);
  const counts = `${runDir}.json`;
  const args = [
    ...['train', '--data', 'digits', '--model', 'demo', '--batch-size', '32', '--schedule', 'constant', '--json'],
    ...['--device', 'cuda', '--epochs', '1', '--max-steps', `${steps}`, '--run-dir', runDir],
    ...options,
  ];
  const { stdout } = await promisify(execFile)(process.execPath, [join(packageRoot, 'bin/flatmin.js'), ...args], {
    env: { ...process.env, FLATMIN_EMULATED_GPU_COUNTS: counts, ...env },
  });
  const events = stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const epoch = events.find(({ type }) => type === 'epoch') as { train: { loss: number }; eager?: string };
  return { counts: JSON.parse(await readFile(counts, 'utf8')) as Counts, epoch };
}

describe.skipIf(!emulated)('on the emulated GPU', () => {
  it.each([
    ['of images that lie there', []],
    ['of images of the loader', ['--color-jitter', '0.4']],
    ['of mixed images', ['--mixup', '0.5']],
  ])('a recorded step %s is one replay and one wait of the host', async (_, options) => {
    const [fewer, more] = [await counted(10, {}, ...options), await counted(30, {}, ...options)];
    expect(more.counts.recordings).toBe(1);
    expect(more.counts.replays - fewer.counts.replays).toBe(20);
    expect(more.counts.waits - fewer.counts.waits).toBe(20);
  });

  it('a recorded step of ResNet-20 asks for what the documentation says', async () => {
    const { counts } = await counted(4, {}, '--model', 'resnet20', '--dtype', 'bfloat16', '--momentum', '0.9');
    const total = Object.values(counts.recorded).reduce((sum, count) => sum + count, 0);
    const said = /\| ResNet-20 \| (\d+) \|/.exec(await readFile(join(packageRoot, 'docs/performance.md'), 'utf8'));
    expect(total).toBe(Number(said?.[1]));
  });

  it.each(['cudaMalloc', 'cudaGraphInstantiate'])(
    'a recording for which %s fails is given up, with the reason',
    async (call) => {
      const [usual, failed] = [await counted(12), await counted(12, { FLATMIN_EMULATED_GPU_REFUSES: call })];
      expect(usual.epoch.eager).toBeUndefined();
      expect(failed.epoch.eager).toMatch(/out of memory/);
      expect(failed.epoch.train.loss).toBeCloseTo(usual.epoch.train.loss, 6);
      expect(failed.counts).toMatchObject({ replays: 0 });
    },
  );

  it('there may be several, and each is trained on', async () => {
    const [first, second] = [await counted(6), await counted(6, { FLATMIN_EMULATED_GPUS: '2' }, '--device', 'cuda:1')];
    expect(second.epoch.train.loss).toBe(first.epoch.train.loss);
    await expect(counted(6, {}, '--device', 'cuda:1')).rejects.toMatchObject({
      stderr: expect.stringContaining("there is one GPU, 'cuda:0'"),
    });
  });
});
