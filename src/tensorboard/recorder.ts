// Writes a run's events as TensorBoard files. One folder a split (train, validation, test) with the same tags, as Keras
// does it, so that TensorBoard draws them into one chart; every value lies at the step at which it was measured.
import { join } from 'node:path';
import type { EpochEvent, Evaluation, StartEvent, StepEvent, TrainEvent } from '../events.js';
import { EventFile, type Scalars } from './event-file.js';

type Value = number | null | undefined;

/** The entries that there are. */
const scalars = (entries: Readonly<Record<string, Value>>): Scalars =>
  new Map(Object.entries(entries).filter((entry): entry is [string, number] => typeof entry[1] === 'number'));

const ofStep = (event: StepEvent) =>
  scalars({
    'step/loss': event.loss,
    'step/accuracy': event.accuracy,
    'step/sharpness': event.sharpness,
    'step/learning_rate': event.lr,
    'step/rho': event.rho,
    'step/momentum': event.momentum,
    'step/gradient_norm': event.gradientNorm,
    'step/loss_scale': event.lossScale,
    'step/update_norm': event.updateNorm,
    'step/weight_norm': event.weightNorm,
    'step/images_per_second': event.imagesPerSecond,
  });

const ofEpoch = (event: EpochEvent) =>
  scalars({
    'epoch/loss': event.train.loss,
    'epoch/accuracy': event.train.accuracy,
    'epoch/sharpness': event.sharpness,
    'epoch/generalization_gap': event.generalizationGap,
    'epoch/learning_rate': event.lr,
    'epoch/rho': event.rho,
    'epoch/momentum': event.momentum,
    'epoch/images_per_second': event.imagesPerSecond,
    'epoch/seconds': event.seconds,
    'epoch/memory_bytes': event.memoryBytes,
    'epoch/skipped_steps': event.skippedSteps,
  });

const ofSplit = (scores: Evaluation | undefined, averaged: Evaluation | undefined) =>
  scalars({
    'epoch/loss': scores?.loss,
    'epoch/accuracy': scores?.accuracy,
    'epoch/top5': scores?.top5,
    'epoch/ece': scores?.ece,
    'epoch/averaged_loss': averaged?.loss,
    'epoch/averaged_accuracy': averaged?.accuracy,
  });

type Split = 'train' | 'validation' | 'test';

/** Step events come up to twenty times a second; charts need fewer. */
const STEP_MS = 1000;

/** Records one run. */
export class TensorBoardRecorder {
  readonly #folder: string;
  #files: Readonly<Record<Split, EventFile>> | undefined;
  #start: StartEvent | undefined;
  #lastStep = Number.NEGATIVE_INFINITY;

  /** @param runDir Folder of the run; the files go into `tensorboard` there. */
  constructor(runDir: string) {
    this.#folder = join(runDir, 'tensorboard');
  }

  /** Writes what an event tells. @throws `ERR_FLATMIN_PATH` when it cannot be written. */
  async record(event: TrainEvent): Promise<void> {
    if (event.type === 'start') this.#begin(event);
    else if (event.type === 'step') await this.#step(event);
    else if (event.type === 'epoch') await this.#epoch(event);
  }

  #begin(event: StartEvent): void {
    this.#start = event;
    const file = (split: Split) => new EventFile(join(this.#folder, split), event.stepsDone + 1);
    this.#files = { train: file('train'), validation: file('validation'), test: file('test') };
  }

  async #step(event: StepEvent): Promise<void> {
    const now = performance.now();
    if (now - this.#lastStep < STEP_MS) return;
    this.#lastStep = now;
    await this.#files?.train.add(event.step, ofStep(event));
  }

  async #epoch(event: EpochEvent): Promise<void> {
    if (this.#start === undefined || this.#files === undefined) return;
    // The last epoch of a run with `maxSteps` may end early.
    const step = Math.min(event.epoch * this.#start.stepsPerEpoch, this.#start.steps);
    await this.#files.train.add(step, ofEpoch(event));
    await this.#files.validation.add(step, ofSplit(event.validation, event.averaged?.validation));
    await this.#files.test.add(step, ofSplit(event.test, event.averaged?.test));
  }
}
