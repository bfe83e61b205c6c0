// Run: awaiting, iterating, stopping and aborting, with a native run that the test feeds by hand.

import { describe, expect, it } from 'vitest';
import type { Callback } from '../src/callbacks/index.js';
import { AbortError, type EpochEvent, type StepEvent, type TrainEvent } from '../src/events.js';
import type { Model } from '../src/model.js';
import type { Optimizer } from '../src/optimizer.js';
import { Run } from '../src/run.js';

const start: TrainEvent = {
  type: 'start',
  runDir: null,
  steps: 4,
  epochs: 2,
  stepsPerEpoch: 2,
  stepsDone: 0,
  device: 'cpu',
  parameters: 1,
  seed: 0,
  resumedFrom: null,
};

const step = (number: number): StepEvent => ({
  type: 'step',
  epoch: 1,
  step: number,
  totalSteps: 4,
  loss: 1,
  sharpness: null,
  accuracy: 0,
  lr: 0.1,
  rho: null,
  momentum: 0.9,
  gradientNorm: 1,
  imagesPerSecond: 1,
  etaSeconds: 1,
  dataSeconds: 0,
  skippedSteps: 0,
});

const epoch = (number: number): EpochEvent => ({
  type: 'epoch',
  epoch: number,
  train: { loss: 1, accuracy: 0 },
  generalizationGap: null,
  sharpness: null,
  lr: 0.1,
  rho: null,
  momentum: 0.9,
  imagesPerSecond: 1,
  seconds: 1,
  dataSeconds: 0,
  memoryBytes: 1,
  skippedSteps: 0,
  badImages: 0,
});

const end = (
  reason: 'finished' | 'stopped' | 'aborted' = 'finished',
  checkpoint: string | null = null,
): TrainEvent => ({
  type: 'end',
  reason,
  result: {
    epochs: 2,
    steps: 4,
    best: null,
    train: null,
    validation: null,
    test: null,
    averaged: null,
    averageApplied: false,
    seconds: 1,
    imagesPerSecond: 1,
    peakMemoryBytes: 1,
    skippedSteps: 0,
    checkpoint,
  },
});

/** A native run: plays a script of events, and says what it was asked. A function in the script may look at that. */
class FakeRun {
  readonly asked: unknown[] = [];
  readonly #script: (TrainEvent | Error | (() => TrainEvent | undefined))[];

  constructor(script: (TrainEvent | Error | (() => TrainEvent | undefined))[]) {
    this.#script = [...script];
  }

  async next(): Promise<object | null> {
    const entry = this.#script.shift();
    const event = typeof entry === 'function' ? (entry() ?? (await this.next())) : entry;
    if (event instanceof Error) throw event;
    return event ?? null;
  }

  acknowledge(control: object): void {
    this.asked.push(control);
  }

  stop(): void {
    this.asked.push('stop');
  }

  abort(): void {
    this.asked.push('abort');
  }
}

function runOf(native: FakeRun, { callbacks = [], signal }: { callbacks?: Callback[]; signal?: AbortSignal } = {}) {
  let ended = 0;
  const optimizer = { groups: [{ lr: 0.1 }] } as unknown as Optimizer;
  const run = new Run({
    start: async () => native,
    ended: () => {
      ended += 1;
    },
    callbacks,
    recorder: undefined,
    control: { model: {} as Model, optimizer },
    signal,
  });
  return { run, optimizer, ended: () => ended };
}

const typesOf = async (events: AsyncIterable<TrainEvent>): Promise<string[]> => {
  const types: string[] = [];
  for await (const event of events) types.push(event.type === 'epoch' ? `epoch ${event.epoch}` : event.type);
  return types;
};

describe('Run', () => {
  it('resolves to the history, read or not', async () => {
    const { run, ended } = runOf(
      new FakeRun([
        start,
        step(1),
        epoch(1),
        { type: 'checkpoint', epoch: 1, path: 'c', kind: 'last' },
        epoch(2),
        end(),
      ]),
    );
    const history = await run;
    expect(history.epochs.map((event) => event.epoch)).toEqual([1, 2]);
    expect(history.checkpoints).toHaveLength(1);
    expect(history.reason).toBe('finished');
    expect(history.result.steps).toBe(4);
    expect(ended()).toBe(1);
  });

  it('gives every reader every event but steps, also one that comes late', async () => {
    const { run } = runOf(new FakeRun([start, step(1), step(2), epoch(1), epoch(2), end()]));
    const expected = ['start', 'epoch 1', 'epoch 2', 'end'];
    const [first, second] = await Promise.all([typesOf(run), typesOf(run)]);
    expect(first.filter((type) => type !== 'step')).toEqual(expected);
    expect(second.filter((type) => type !== 'step')).toEqual(expected);
    expect((await typesOf(run)).filter((type) => type !== 'step')).toEqual(expected);
  });

  it('coalesces steps: a late reader of a crowd of steps gets the latest', async () => {
    const { run } = runOf(new FakeRun([start, ...Array.from({ length: 100 }, (_, index) => step(index + 1)), end()]));
    await run;
    const steps: number[] = [];
    for await (const event of run) if (event.type === 'step') steps.push(event.step);
    expect(steps).toEqual([100]);
  });

  it('goes on when a reader breaks', async () => {
    const native = new FakeRun([start, epoch(1), epoch(2), end()]);
    const { run } = runOf(native);
    for await (const event of run) if (event.type === 'epoch') break;
    expect((await run).epochs).toHaveLength(2);
    expect(native.asked).toEqual([]);
  });

  it('stops on request and resolves normally', async () => {
    const native: FakeRun = new FakeRun([
      start,
      epoch(1),
      () => (native.asked.includes('stop') ? end('stopped') : end()),
    ]);
    const { run } = runOf(native);
    for await (const event of run) if (event.type === 'start') run.stop();
    expect((await run).reason).toBe('stopped');
    run.stop();
    expect(native.asked).toEqual(['stop']);
  });

  it('rejects with AbortError, the checkpoint and the partial history when the signal aborts', async () => {
    const controller = new AbortController();
    const native = new FakeRun([
      start,
      epoch(1),
      () => {
        controller.abort(new Error('enough'));
        return undefined;
      },
      end('aborted', 'runs/a/checkpoints/last'),
    ]);
    const { run, ended } = runOf(native, { signal: controller.signal });
    const error = await run.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(AbortError);
    const abort = error as AbortError;
    expect([abort.name, abort.code, abort.checkpoint]).toEqual(['AbortError', 'ABORT_ERR', 'runs/a/checkpoints/last']);
    expect(abort.history.epochs).toHaveLength(1);
    expect((abort.cause as Error).message).toBe('enough');
    expect(native.asked).toEqual(['abort']);
    expect(ended()).toBe(1);
    await expect(typesOf(run)).rejects.toBe(error);
  });

  it('does not begin when the signal has aborted already', async () => {
    const native = new FakeRun([start, end()]);
    const { run } = runOf(native, { signal: AbortSignal.abort() });
    await expect(run).rejects.toBeInstanceOf(AbortError);
    expect(native.asked).toEqual([]);
  });

  it('throws the error of training to whoever awaits or iterates, after the events before it', async () => {
    const native = new FakeRun([start, epoch(1), new Error('{"code":"ERR_FLATMIN_DATA","message":"label 12 of 10"}')]);
    const { run } = runOf(native);
    const seen: string[] = [];
    await expect(async () => {
      for await (const event of run) seen.push(event.type);
    }).rejects.toMatchObject({ code: 'ERR_FLATMIN_DATA', message: 'label 12 of 10' });
    expect(seen).toEqual(['start', 'epoch']);
    await expect(run).rejects.toMatchObject({ code: 'ERR_FLATMIN_DATA' });
  });

  it('turns losses that JSON could not hold into NaN', async () => {
    const broken = { ...epoch(1), train: { loss: null as unknown as number, accuracy: 0 } };
    const history = await runOf(new FakeRun([start, broken, end()])).run;
    expect(history.epochs[0]?.train.loss).toBeNaN();
  });
});

describe('callbacks of a run', () => {
  it('are awaited at epoch ends, one after the other, before the run goes on', async () => {
    const order: string[] = [];
    const slow = (name: string): Callback => ({
      async onEpochEnd(event) {
        await new Promise(setImmediate);
        order.push(`${name} ${event.epoch}`);
      },
    });
    const note = (text: string) => () => {
      order.push(text);
      return undefined;
    };
    await runOf(new FakeRun([start, epoch(1), note('goes on'), epoch(2), end()]), { callbacks: [slow('a'), slow('b')] })
      .run;
    expect(order).toEqual(['a 1', 'b 1', 'goes on', 'a 2', 'b 2']);
  });

  it('can stop the run and set the learning rate', async () => {
    const native = new FakeRun([start, epoch(1), end('stopped')]);
    const callback: Callback = {
      onEpochEnd(_event, control) {
        control.setLearningRate(0.01);
        control.stop();
      },
    };
    await runOf(native, { callbacks: [callback] }).run;
    expect(native.asked).toEqual([{ stop: true, lr: 0.01 }]);
  });

  it('see the beginning and the end', async () => {
    const seen: string[] = [];
    const callback: Callback = {
      onTrainBegin: (event, control) => {
        seen.push(event.type);
        control.setLearningRate(0.5);
      },
      onTrainEnd: (history) => void seen.push(history.reason),
    };
    const { run, optimizer } = runOf(new FakeRun([start, epoch(1), end()]), { callbacks: [callback] });
    await run;
    expect(seen).toEqual(['start', 'finished']);
    expect(optimizer.groups[0]?.lr).toBe(0.5);
  });

  it('end the run with their error, once the native side is done', async () => {
    const native = new FakeRun([start, epoch(1), end('aborted')]);
    const broken: Callback = {
      onEpochEnd() {
        throw new Error('callback broke');
      },
    };
    await expect(runOf(native, { callbacks: [broken] }).run).rejects.toThrow('callback broke');
    expect(native.asked).toEqual(['abort']);
  });

  it('refuse a learning rate that is none', async () => {
    const broken: Callback = { onEpochEnd: (_event, control) => control.setLearningRate(-1) };
    await expect(runOf(new FakeRun([start, epoch(1), end()]), { callbacks: [broken] }).run).rejects.toMatchObject({
      code: 'ERR_FLATMIN_OPTION',
    });
  });
});
