// The callbacks that come with flatmin, fed with epoch events by hand.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  CSVLogger,
  EarlyStopping,
  LearningRateMonitor,
  ModelCheckpoint,
  type TrainControl,
} from '../src/callbacks/index.js';
import type { EpochEvent, FinishedHistory, StartEvent } from '../src/events.js';

const begin = (resumedFrom: string | null = null): StartEvent => ({
  type: 'start',
  runDir: null,
  steps: 9,
  epochs: 9,
  stepsPerEpoch: 1,
  stepsDone: 0,
  device: 'cpu',
  parameters: 1,
  seed: 0,
  resumedFrom,
});

function epochOf(epoch: number, validationLoss: number, lr = 0.1): EpochEvent {
  return {
    type: 'epoch',
    epoch,
    train: { loss: 1, accuracy: 0.5 },
    validation: { count: 10, loss: validationLoss, accuracy: 1 - validationLoss, top5: 1 },
    generalizationGap: validationLoss - 1,
    sharpness: null,
    lr,
    rho: null,
    momentum: 0.9,
    imagesPerSecond: 100,
    seconds: 2,
    dataSeconds: 0,
    memoryBytes: 1,
    skippedSteps: 0,
    badImages: 0,
  };
}

/** A control that notes what it was asked, with a model that notes what was saved. */
function fakeControl() {
  const notes: string[] = [];
  const model = {
    save: async (path: string) => void notes.push(`save ${path}`),
    stateDict: async () => ({ w: { dispose: () => void notes.push('dispose') } }),
    loadStateDict: async () => void notes.push('load'),
  };
  const control = { model, stop: () => void notes.push('stop') } as unknown as TrainControl;
  return { control, notes };
}

describe('EarlyStopping', () => {
  async function epochsUntilStop(
    losses: number[],
    options: ConstructorParameters<typeof EarlyStopping>[0],
  ): Promise<number | null> {
    const callback = new EarlyStopping(options);
    const { control } = fakeControl();
    callback.onTrainBegin();
    for (const [index, loss] of losses.entries()) await callback.onEpochEnd(epochOf(index + 1, loss), control);
    return callback.stoppedEpoch;
  }

  it('stops when the loss has not improved for more than patience epochs', async () => {
    expect(await epochsUntilStop([0.5, 0.4, 0.45, 0.44], { patience: 1 })).toBe(4);
    expect(await epochsUntilStop([0.5, 0.4, 0.45, 0.39], { patience: 1 })).toBeNull();
  });

  it('watches an accuracy upwards, counts only changes above minDelta, and never takes NaN for better', async () => {
    expect(await epochsUntilStop([0.5, 0.4, 0.3], { monitor: 'validation.accuracy' })).toBeNull();
    expect(await epochsUntilStop([0.5, 0.499], { minDelta: 0.01 })).toBe(2);
    expect(await epochsUntilStop([Number.NaN, Number.NaN], { patience: 1 })).toBe(2);
  });

  it('restores the best weights at the end, and frees its copies', async () => {
    const callback = new EarlyStopping({ patience: 3, restoreBestWeights: true });
    const { control, notes } = fakeControl();
    callback.onTrainBegin();
    for (const [index, loss] of [0.5, 0.4, 0.6].entries()) await callback.onEpochEnd(epochOf(index + 1, loss), control);
    await callback.onTrainEnd({} as FinishedHistory, control);
    expect(callback.bestEpoch).toBe(2);
    expect(notes).toEqual(['dispose', 'load', 'dispose']);
  });

  it('refuses an unknown value at once, and a missing one when it sees the first epoch', async () => {
    expect(() => new EarlyStopping({ monitor: 'validation.acuracy' })).toThrow("did you mean 'validation.accuracy'?");
    await expect(epochsUntilStop([1], { monitor: 'test.loss' })).rejects.toThrow("no 'test.loss' to monitor");
  });
});

describe('ModelCheckpoint', () => {
  it('saves each epoch under its number', async () => {
    const { control, notes } = fakeControl();
    const callback = new ModelCheckpoint({ path: 'm-{epoch}.safetensors' });
    callback.onTrainBegin();
    await callback.onEpochEnd(epochOf(1, 0.5), control);
    await callback.onEpochEnd(epochOf(2, 0.6), control);
    expect(notes).toEqual(['save m-1.safetensors', 'save m-2.safetensors']);
    expect(callback.lastPath).toBe('m-2.safetensors');
  });

  it('saves only the best on request', async () => {
    const { control, notes } = fakeControl();
    const callback = new ModelCheckpoint({ path: '{epoch}', saveBestOnly: true, monitor: 'validation.accuracy' });
    callback.onTrainBegin();
    for (const [index, loss] of [0.5, 0.6, 0.4].entries()) await callback.onEpochEnd(epochOf(index + 1, loss), control);
    expect(notes).toEqual(['save 1', 'save 3']);
  });
});

describe('CSVLogger', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'flatmin-csv-'));
  });

  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  it('writes a header and a line per epoch, begins anew, and goes on after a resume', async () => {
    const path = join(folder, 'logs', 'epochs.csv');
    const callback = new CSVLogger({ path });
    await callback.onTrainBegin(begin());
    await callback.onEpochEnd(epochOf(1, 0.7));
    await callback.onTrainBegin(begin());
    await callback.onEpochEnd(epochOf(1, 0.5));
    await callback.onTrainBegin(begin('checkpoints/last'));
    await callback.onEpochEnd(epochOf(2, 0.25));
    const [header, ...lines] = (await readFile(path, 'utf8')).trim().split('\n');
    const columns = header?.split(',') ?? [];
    const values = lines.map((line) =>
      Object.fromEntries(line.split(',').map((cell, index) => [columns[index], cell])),
    );
    expect(values.map((row) => row.validation_loss)).toEqual(['0.5', '0.25']);
    expect(values[0]).toMatchObject({ epoch: '1', test_loss: '', sharpness: '', train_accuracy: '0.5' });
  });
});

describe('LearningRateMonitor', () => {
  it('records each epoch and reports changes', () => {
    const changes: number[] = [];
    const callback = new LearningRateMonitor({ onChange: ({ lr }) => changes.push(lr) });
    for (const [index, lr] of [0.1, 0.1, 0.01].entries()) callback.onEpochEnd(epochOf(index + 1, 1, lr));
    callback.onEpochEnd({ ...epochOf(4, 1, 0.01), rho: 0.5 });
    expect(callback.records).toEqual([
      { epoch: 1, lr: 0.1, rho: null, momentum: 0.9 },
      { epoch: 2, lr: 0.1, rho: null, momentum: 0.9 },
      { epoch: 3, lr: 0.01, rho: null, momentum: 0.9 },
      { epoch: 4, lr: 0.01, rho: 0.5, momentum: 0.9 },
    ]);
    expect(changes).toEqual([0.1, 0.01, 0.01]);
  });
});
