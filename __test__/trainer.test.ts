// Trainer and fit: real runs on small data, awaited, iterated, stopped, aborted and resumed.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  AbortError,
  ASAM,
  callbacks,
  type Dataset,
  datasets,
  type EpochEvent,
  layers,
  Model,
  models,
  SGD,
  type TrainEvent,
  Trainer,
  type TrainerOptions,
} from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf, weightsOf } from './support.js';

const folder = temporaryFolder('trainer');
let digits: Dataset;

beforeAll(() => {
  digits = datasets.digits().take(256);
});

/** A small classifier of digits, with dropout and batch norm so that every kind of state takes part. */
function smallNet(): Model {
  const list = [
    layers.conv2d(4, 3, { padding: 1 }),
    layers.batchNorm2d(),
    layers.relu(),
    layers.flatten(),
    layers.dropout(0.2),
    layers.linear(10),
  ];
  return Model.sequential(list, { inputShape: [1, 8, 8], seed: 1 });
}

function trainerOf(options: Partial<TrainerOptions> = {}): Trainer {
  const model = options.model ?? smallNet();
  const optimizer = options.optimizer ?? new ASAM(new SGD(model, { lr: 0.05, momentum: 0.9 }), { rho: 0.5 });
  return new Trainer({ model, optimizer, train: digits, epochs: 3, batchSize: 64, seed: 7, ...options });
}

describe('fit', () => {
  it('learns: the loss falls, the model predicts, and the history tells', async () => {
    const model = smallNet();
    const trainer = trainerOf({
      model,
      epochs: 12,
      validation: 0.25,
      test: datasets.digits().split([1500, 297])[1],
      schedule: 'cosine',
    });
    const history = await trainer.fit();
    expect(history.reason).toBe('finished');
    expect(history.epochs.map((event) => event.epoch)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    const [first, last] = [history.epochs[0] as EpochEvent, history.epochs[11] as EpochEvent];
    expect(last.train.loss).toBeLessThan(first.train.loss / 2);
    expect(last.validation?.count).toBe(64);
    expect(last.test?.accuracy).toBeGreaterThan(0.7);
    expect(last.generalizationGap).toBeCloseTo((last.test?.loss as number) - last.train.loss, 10);
    expect(last.sharpness).not.toBeNull();
    expect(last.lr).toBeLessThan(first.lr);
    expect(history.result).toMatchObject({ epochs: 12, steps: 12 * 3, skippedSteps: 0, checkpoint: null });
    expect(history.result.best?.accuracy).toBe(
      Math.max(...history.epochs.map((event) => event.validation?.accuracy ?? 0)),
    );
    expect(model.normalization).not.toBeNull();
    expect(model.classNames).toEqual(digits.classNames);
  });

  it('gives the same weights for the same seed, however many threads load', async () => {
    const [one, two, other] = [smallNet(), smallNet(), smallNet()];
    await trainerOf({ model: one, epochs: 1 }).fit();
    await trainerOf({ model: two, epochs: 1, loaderThreads: 2 }).fit();
    await trainerOf({ model: other, epochs: 1, seed: 8 }).fit();
    expect(await weightsOf(two)).toEqual(await weightsOf(one));
    expect(await weightsOf(other)).not.toEqual(await weightsOf(one));
  });

  it('can be iterated: start first, every epoch, end last', async () => {
    const seen: TrainEvent[] = [];
    for await (const event of trainerOf().fit()) seen.push(event);
    const types = seen.map((event) => event.type).filter((type) => type !== 'step');
    expect(types).toEqual(['start', 'epoch', 'epoch', 'epoch', 'end']);
    const start = seen[0] as TrainEvent & { type: 'start' };
    expect(start).toMatchObject({ steps: 12, epochs: 3, seed: 7, resumedFrom: null, runDir: null });
    for (const event of seen) if (event.type === 'step') expect(event.totalSteps).toBe(12);
  });

  it('goes on after break, and a second reader still gets everything', async () => {
    const run = trainerOf().fit();
    for await (const event of run) if (event.type === 'epoch') break;
    expect((await run).epochs).toHaveLength(3);
    const epochs: number[] = [];
    for await (const event of run) if (event.type === 'epoch') epochs.push(event.epoch);
    expect(epochs).toEqual([1, 2, 3]);
  });

  it('stops on request: the history is what was done', async () => {
    const run = trainerOf({ epochs: 10_000 }).fit();
    for await (const event of run) if (event.type === 'epoch' && event.epoch === 2) run.stop();
    const history = await run;
    expect(history.reason).toBe('stopped');
    expect(history.epochs.length).toBeGreaterThanOrEqual(2);
    expect(history.epochs.length).toBeLessThan(10_000);
  });

  it('rejects with AbortError that carries the checkpoint and the partial history', async () => {
    const controller = new AbortController();
    const run = trainerOf({ epochs: 10_000, runDir: join(folder, 'aborted') }).fit({ signal: controller.signal });
    const follow = async () => {
      for await (const event of run) if (event.type === 'epoch') controller.abort();
    };
    await expect(follow()).rejects.toBeInstanceOf(AbortError);
    const error = await run.then(
      () => undefined,
      (reason: AbortError) => reason,
    );
    expect(error?.name).toBe('AbortError');
    expect(error?.history.epochs.length).toBeGreaterThan(0);
    expect(error?.checkpoint).toContain(join(folder, 'aborted'));
    expect(await readdir(error?.checkpoint ?? '')).toContain('model.safetensors');
  });

  it('leaves the event loop free: timers fire while it trains', async () => {
    const run = trainerOf({ epochs: 10_000 }).fit();
    let ticks = 0;
    // If training held the event loop, no timer would stop it before its last epoch.
    const timer = setInterval(() => {
      ticks += 1;
      if (ticks === 50) run.stop();
    }, 1);
    const history = await run;
    clearInterval(timer);
    expect(history.reason).toBe('stopped');
    expect(history.epochs.length).toBeLessThan(10_000);
  });

  it('calls back at epoch ends, which can stop it', async () => {
    const order: string[] = [];
    const lrs = new callbacks.LearningRateMonitor();
    const history = await trainerOf({
      epochs: 50,
      callbacks: [
        lrs,
        {
          onTrainBegin: () => void order.push('begin'),
          onEpochEnd: async (event, control) => {
            order.push(`epoch ${event.epoch}`);
            expect((await control.model.evaluate(digits.take(8))).count).toBe(8);
            control.setLearningRate(0.05 / (event.epoch + 1));
            if (event.epoch === 3) control.stop();
          },
          onTrainEnd: () => void order.push('end'),
        },
      ],
    }).fit();
    expect(order).toEqual(['begin', 'epoch 1', 'epoch 2', 'epoch 3', 'end']);
    expect(history.reason).toBe('stopped');
    expect(lrs.records.map(({ lr }) => lr)).toEqual([0.05, 0.05 / 2, 0.05 / 3]);
  });

  it('restores the best weights with EarlyStopping', async () => {
    const model = smallNet();
    const early = new callbacks.EarlyStopping({ monitor: 'validation.loss', patience: 0, restoreBestWeights: true });
    const [train, validation] = digits.split([0.75, 0.25]);
    const history = await trainerOf({ model, train, validation, epochs: 200, callbacks: [early] }).fit();
    expect(early.stoppedEpoch).toBe(history.epochs.length);
    const best = history.epochs[early.bestEpoch - 1]?.validation?.loss as number;
    expect((await model.evaluate(validation)).loss).toBeCloseTo(best, 5);
  });

  it('accepts the promise of a data set, and rejects when that fails', async () => {
    expect((await trainerOf({ train: Promise.resolve(digits), epochs: 1 }).fit()).epochs).toHaveLength(1);
    await expect(trainerOf({ train: datasets.cifar10('/nowhere') }).fit()).rejects.toMatchObject({
      code: 'ERR_FLATMIN_PATH',
    });
  });

  it('keeps the model: changing weights meanwhile is an error, measuring is not', async () => {
    const model = smallNet();
    const trainer = trainerOf({ model, epochs: 10_000 });
    const run = trainer.fit();
    for await (const event of run) if (event.type === 'epoch') break;
    expect((await errorOf(() => trainer.fit())).code).toBe('ERR_FLATMIN_BUSY');
    expect((await errorOf(() => trainer.optimizer.clearGradients())).code).toBe('ERR_FLATMIN_BUSY');
    const state = await model.stateDict();
    expect((await errorOf(() => model.loadStateDict(state))).code).toBe('ERR_FLATMIN_BUSY');
    expect((await model.evaluate(digits.take(16))).count).toBe(16);
    await model.save(join(folder, 'meanwhile.safetensors'));
    run.stop();
    await run;
    await model.loadStateDict(state);
    expect((await errorOf(() => trainer.fit({ signal: 1 as never }))).code).toBe('ERR_FLATMIN_OPTION');
  });
});

describe('schedules', () => {
  it('move learning rate, rho and momentum, and events and monitor tell so', async () => {
    const monitor = new callbacks.LearningRateMonitor();
    const trainer = trainerOf({
      epochs: 4,
      schedule: { type: 'linear', by: 'epoch', endFactor: 0.2 },
      rhoSchedule: { type: 'lr', min: 0.1 },
      momentumSchedule: { type: 'step', stepSize: 2, gamma: 0.5 },
      callbacks: [monitor],
    });
    const history = await trainer.fit();
    const expected = [1, 0.8, 0.6, 0.4].map((factor, index) => ({
      lr: 0.05 * factor,
      rho: 0.1 + ((factor - 0.2) / 0.8) * 0.4,
      momentum: index < 2 ? 0.9 : 0.45,
    }));
    for (const [index, event] of history.epochs.entries()) {
      for (const key of ['lr', 'rho', 'momentum'] as const) {
        expect(event[key], `${key} of epoch ${index + 1}`).toBeCloseTo(expected[index]?.[key] as number, 12);
      }
    }
    expect(monitor.records).toEqual(
      history.epochs.map(({ epoch, lr, rho, momentum }) => ({ epoch, lr, rho, momentum })),
    );
  });

  it.each(['multiStep', 'exponential', 'polynomial', 'oneCycle', 'plateau'] as const)(
    'take the name %s',
    async (schedule) => {
      const rhoSchedule = schedule;
      const history = await trainerOf({ epochs: 1, schedule, rhoSchedule }).fit();
      expect(history.reason).toBe('finished');
    },
  );

  it('are refused where the optimizer has nothing to schedule', async () => {
    const model = smallNet();
    const optimizer = new SGD(model, { lr: 0.05 });
    const { code, message } = await errorOf(() => trainerOf({ model, optimizer, rhoSchedule: 'cosine' }).fit());
    expect(code).toBe('ERR_FLATMIN_OPTION');
    expect(message).toMatch(/rhoSchedule is given.*sharpness-aware/);
    const cycle = await errorOf(() => trainerOf({ model, optimizer, schedule: 'oneCycle' }).fit());
    expect(cycle.message).toMatch(/cycleMomentum/);
  });
});

describe('resume', () => {
  it('equals the run that was never interrupted, bit for bit', async () => {
    const options = { epochs: 4, validation: 0.25, schedule: 'cosine' as const, augment: { padCrop: 1, flip: false } };
    const whole = smallNet();
    const expected = await trainerOf({ model: whole, ...options }).fit();

    const runDir = join(folder, 'resumed');
    const first = trainerOf({ model: smallNet(), ...options, runDir });
    const run = first.fit();
    for await (const event of run) if (event.type === 'epoch' && event.epoch === 2) run.stop();
    expect((await run).reason).toBe('stopped');

    const model = Model.sequential(smallNet().spec.layers, { inputShape: [1, 8, 8], seed: 99 });
    const history = await trainerOf({ model, ...options, runDir }).resume(runDir);
    expect(history.reason).toBe('finished');
    expect(history.result.steps).toBe(expected.result.steps);
    expect(history.epochs.at(-1)?.validation).toEqual(expected.epochs.at(-1)?.validation);
    expect(await weightsOf(model)).toEqual(await weightsOf(whole));
  });

  it('leaves a run folder that can be read', async () => {
    const runDir = join(folder, 'folder');
    const history = await trainerOf({ runDir, validation: 0.25, epochs: 2 }).fit();
    expect(history.runDir).toBe(runDir);
    expect(await readdir(runDir)).toEqual(expect.arrayContaining(['config.json', 'events.jsonl', 'checkpoints']));
    const lines = (await readFile(join(runDir, 'events.jsonl'), 'utf8')).trim().split('\n');
    const types = lines.map((line) => (JSON.parse(line) as TrainEvent).type);
    expect(types.filter((type) => type === 'epoch')).toHaveLength(2);
    expect(types.at(-1)).toBe('end');
    const best = await Model.load(join(runDir, 'checkpoints', 'best', 'model.safetensors'));
    expect(best.normalization).toEqual(
      history.result && (await Model.load(join(runDir, 'checkpoints', 'last', 'model.safetensors'))).normalization,
    );
  });

  it('refuses what is no checkpoint', async () => {
    expect((await errorOf(() => trainerOf().resume(join(folder, 'nothing')))).code).toMatch(
      /ERR_FLATMIN_(PATH|CHECKPOINT)/,
    );
    expect((await errorOf(() => trainerOf().resume(undefined as never))).code).toBe('ERR_FLATMIN_OPTION');
  });
});

describe('the constructor', () => {
  const model = () => smallNet();
  it.each<[string, (net: Model) => object, string]>([
    ['a missing model', (net) => ({ model: undefined, optimizer: new SGD(net), train: digits }), 'model'],
    ['a missing optimizer', (net) => ({ model: net, train: digits }), 'optimizer'],
    [
      'the optimizer of another model',
      (net) => ({ model: net, optimizer: new SGD(model()), train: digits }),
      'another model',
    ],
    [
      'an optimizer inside a wrapper',
      (net) => {
        const optimizer = new SGD(net);
        new ASAM(optimizer);
        return { model: net, optimizer, train: digits };
      },
      'wrapped by ASAM',
    ],
    ['a missing training set', (net) => ({ model: net, optimizer: new SGD(net) }), "'train'"],
    [
      'a misspelt option',
      (net) => ({ model: net, optimizer: new SGD(net), train: digits, epoch: 3 }),
      "did you mean 'epochs'?",
    ],
    [
      'a misspelt object',
      (net) => ({ model: net, optimiser: new SGD(net), train: digits }),
      "did you mean 'optimizer'?",
    ],
    [
      'a validation share of 1',
      (net) => ({ model: net, optimizer: new SGD(net), train: digits, validation: 1 }),
      "'validation'",
    ],
    ['a test set that is none', (net) => ({ model: net, optimizer: new SGD(net), train: digits, test: 0.1 }), "'test'"],
    [
      'callbacks that are none',
      (net) => ({ model: net, optimizer: new SGD(net), train: digits, callbacks: [1] }),
      "'callbacks'",
    ],
    ['zero epochs', (net) => ({ model: net, optimizer: new SGD(net), train: digits, epochs: 0 }), "'epochs'"],
  ])('refuses %s', async (_what, options, message) => {
    expect(await errorOf(() => new Trainer(options(model()) as never))).toMatchObject({
      code: 'ERR_FLATMIN_OPTION',
      message: expect.stringContaining(message),
    });
  });

  it('refuses nothing at all', async () => {
    expect((await errorOf(() => new Trainer(undefined as never))).code).toBe('ERR_FLATMIN_OPTION');
  });

  it('leaves data that does not fit the model to the run', async () => {
    const net = models.resnet20();
    await expect(new Trainer({ model: net, optimizer: new SGD(net), train: digits }).fit()).rejects.toMatchObject({
      code: 'ERR_FLATMIN_SHAPE',
    });
  });
});
