// Options of training around the step: averaged weights, mixed batches, losses, step norms, runs that diverge.

import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  ASAM,
  callbacks,
  type Dataset,
  datasets,
  type EpochEvent,
  layers,
  Model,
  SGD,
  type StepEvent,
  Trainer,
  type TrainerOptions,
} from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf, weightsOf } from './support.js';

const folder = temporaryFolder('options');
let digits: Dataset;

beforeAll(() => {
  digits = datasets.digits().take(192);
});

/** With batch norm, whose statistics an average needs. */
function smallNet(): Model {
  const list = [
    layers.conv2d(4, 3, { padding: 1 }),
    layers.batchNorm2d(),
    layers.relu(),
    layers.flatten(),
    layers.linear(10),
  ];
  return Model.sequential(list, { inputShape: [1, 8, 8], seed: 1 });
}

function trainerOf(options: Partial<TrainerOptions> = {}, lr = 0.05): Trainer {
  const model = options.model ?? smallNet();
  const optimizer = new ASAM(new SGD(model, { lr, momentum: 0.9 }), { rho: 0.5 });
  return new Trainer({ model, optimizer, train: digits, epochs: 4, batchSize: 32, ...options });
}

describe('average', () => {
  it('is scored beside the model, kept in checkpoints, and given to the model at the end', async () => {
    const model = smallNet();
    const runDir = join(folder, 'swa');
    const trainer = trainerOf({ model, test: digits, average: { type: 'swa', startEpoch: 3 }, runDir });
    const { epochs, result } = await trainer.fit();
    expect(epochs.map((epoch) => epoch.averaged?.weights)).toEqual([undefined, undefined, 1, 2]);
    expect(result.averageApplied).toBe(true);
    expect(result.averaged).toEqual(epochs[3]?.averaged);
    const { loss } = await model.evaluate(digits);
    expect(loss).toBeCloseTo(result.averaged?.test?.loss as number, 6);
    using kept = await Model.load(join(runDir, 'checkpoints/last/average.safetensors'));
    expect(await weightsOf(kept)).toEqual(await weightsOf(model));
    using own = await Model.load(join(runDir, 'checkpoints/last/model.safetensors'));
    expect((await own.evaluate(digits)).loss).toBeCloseTo(result.test?.loss as number, 6);
  });

  it('stays beside the model with apply off, and can be monitored', async () => {
    const [plain, beside] = [smallNet(), smallNet()];
    await trainerOf({ model: plain, validation: 0.25, epochs: 2 }).fit();
    const seen: (number | undefined)[] = [];
    const early = new callbacks.EarlyStopping({ monitor: 'averaged.validation.loss', minDelta: 1e9, patience: 1 });
    const record = { onEpochEnd: ({ averaged }: EpochEvent) => void seen.push(averaged?.validation?.loss) };
    const { result } = await trainerOf({
      model: beside,
      validation: 0.25,
      average: { type: 'ema', decay: 0.9, apply: false },
      callbacks: [early, record],
    }).fit();
    expect([result.averageApplied, early.stoppedEpoch, seen.length]).toEqual([false, 3, 3]);
    expect(seen.every(Number.isFinite)).toBe(true);
    expect((await trainerOf({ average: 'ema', epochs: 1 }).fit()).result.averaged?.weights).toBe(6);
  });
});

describe('mixed batches and losses', () => {
  it('change training, the same way for the same seed', async () => {
    const lossOf = async (options: Partial<TrainerOptions>): Promise<number | undefined> =>
      (await trainerOf({ epochs: 1, ...options }).fit()).result.train?.loss;
    const variants: Partial<TrainerOptions>[] = [
      {},
      { augment: { mixup: 0.2 } },
      { augment: { cutmix: 1 } },
      { augment: { mixup: 0.2, cutmix: 1, mixProbability: 0.5 } },
      { loss: 'focal' },
      { loss: { type: 'crossEntropy', classWeights: [1, 1, 1, 1, 1, 2, 2, 2, 2, 2] } },
    ];
    const losses = [];
    for (const options of variants) losses.push(await lossOf(options));
    expect(new Set(losses).size).toBe(variants.length);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(await lossOf(variants[3] as Partial<TrainerOptions>)).toBe(losses[3]);
  });

  it('refuse class weights that do not fit the model', async () => {
    const error = await errorOf(() => trainerOf({ loss: { type: 'focal', classWeights: [1, 2] } }).fit());
    expect(error).toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
    expect(error.message).toContain('10, one weight for each class');
  });
});

describe('steps', () => {
  it('tell the norms that were asked for, and no others', async () => {
    const steps = async (stepMetrics: TrainerOptions['stepMetrics']): Promise<StepEvent> => {
      for await (const event of trainerOf({ maxSteps: 1, stepMetrics }).fit()) if (event.type === 'step') return event;
      throw new Error('no step event');
    };
    const asked = await steps(['updateNorm', 'weightNorm']);
    expect(asked.updateNorm).toBeGreaterThan(0);
    expect(asked.weightNorm).toBeGreaterThan(asked.updateNorm as number);
    expect(await steps([])).not.toHaveProperty('updateNorm');
  });

  it('that are not finite end the run if they are told to', async () => {
    const error = await errorOf(() => trainerOf({ nonFinite: 'error', epochs: 50 }, 1e30).fit());
    expect(error).toMatchObject({ code: 'ERR_FLATMIN_NON_FINITE' });
    const many = await errorOf(() => trainerOf({ maxConsecutiveSkips: 2, epochs: 50 }, 1e30).fit());
    expect(many.message).toContain('each of the last 2 steps');
  });
});
