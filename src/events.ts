// What a training run tells: its events and the history that they add up to.
// Accuracies are fractions, losses are means over images, times are seconds, epochs count from 1.

import type { ErrorCode } from './errors.js';

/** Means over the training batches of an epoch, measured while the weights moved. */
export interface TrainScores {
  /** NaN when it was not finite. */
  loss: number;
  /** Share of the images whose most likely class was right. */
  accuracy: number;
}

/** What `model.evaluate` and the evaluations of a run give. */
export interface Evaluation extends TrainScores {
  /** Number of images. */
  count: number;
  /** Share of the images whose class is among the five most likely. */
  top5: number;
  /** Expected calibration error over 15 bins, with the metric `ece`. */
  ece?: number;
  /** `confusionMatrix[label][predicted]` counts images, with the metric `confusionMatrix`. */
  confusionMatrix?: number[][];
}

/** Scores of the averaged weights. */
export interface AveragedScores {
  /** Number of weights that the average holds. */
  weights: number;
  validation?: Evaluation;
  test?: Evaluation;
}

/** The run has begun. */
export interface StartEvent {
  type: 'start';
  /** Folder of the run, or null when nothing is written. */
  runDir: string | null;
  /** Steps of the whole run. */
  steps: number;
  epochs: number;
  stepsPerEpoch: number;
  /** Steps done before, in a run that goes on from a checkpoint; otherwise 0. */
  stepsDone: number;
  /** Trainable numbers of the model. */
  parameters: number;
  /** Where it trains: `cpu` or `cuda:N`. */
  device: string;
  seed: number;
  /** Checkpoint from which the run goes on, or null. */
  resumedFrom: string | null;
}

/** Progress. Step events are coalesced: a slow reader gets the latest one only. */
export interface StepEvent {
  type: 'step';
  epoch: number;
  /** Steps done so far, over the whole run. */
  step: number;
  totalSteps: number;
  /** Mean loss of the latest batch at w; NaN when it was not finite. */
  loss: number;
  /** loss(w + eps) - loss(w) of the latest batch; null without SAM or ASAM. */
  sharpness: number | null;
  /** Of the latest batch. */
  accuracy: number;
  /** Learning rate, the schedule's factor included. */
  lr: number;
  /** Radius of the neighbourhood; null without SAM or ASAM. */
  rho: number | null;
  /** Momentum of SGD or beta1 of Adam. */
  momentum: number;
  /** 2-norm of the gradient at w; NaN when it was not finite. */
  gradientNorm: number;
  /** What the loss was multiplied by before backward passes, if it was: for float16 models. */
  lossScale?: number;
  /** 2-norm of the change of the weights in the step, with the step metric `updateNorm`. */
  updateNorm?: number;
  /** 2-norm of the weights after the step, with the step metric `weightNorm`. */
  weightNorm?: number;
  imagesPerSecond: number;
  etaSeconds: number;
  /** Seconds the loop waited for data in the epoch so far; on a GPU also while that computed. */
  dataSeconds: number;
  /** Steps left out because a gradient was not finite. */
  skippedSteps: number;
  /** The most that tensors have taken of the GPU's memory so far. */
  deviceMemoryBytes?: number;
}

/** An epoch is over, its evaluations included. */
export interface EpochEvent {
  type: 'epoch';
  epoch: number;
  train: TrainScores;
  /** Present when the Trainer has a validation set. */
  validation?: Evaluation;
  /** Present when the Trainer has a test set. */
  test?: Evaluation;
  /** Present with the option `average`, once the average holds weights. */
  averaged?: AveragedScores;
  /** Loss on the test set (without one: the validation set) minus the loss on the training set; null with neither. */
  generalizationGap: number | null;
  /** Mean of loss(w + eps) - loss(w) over the epoch's batches; null without SAM or ASAM. */
  sharpness: number | null;
  /** Of the first group at the last step, the schedule's factor included; so are rho and momentum. */
  lr: number;
  /** Null without SAM or ASAM. */
  rho: number | null;
  momentum: number;
  imagesPerSecond: number;
  /** Side of the training images, with progressive resizing. */
  imageSize?: number;
  seconds: number;
  /** Time that training waited for data; on a GPU also while that computed. */
  dataSeconds: number;
  /** Resident memory of the process; null where the system does not tell. */
  memoryBytes: number | null;
  /** The most that tensors have taken of the GPU's memory so far. */
  deviceMemoryBytes?: number;
  /** On a GPU, why steps are not replayed from CUDA graphs. */
  eager?: string;
  skippedSteps: number;
  /** Training images that could not be read or decoded since the data set was opened. */
  badImages: number;
  /** Something that deserves a look, such as many skipped steps. */
  warning?: string;
}

/** A checkpoint lies on disk, complete. */
export interface CheckpointEvent {
  type: 'checkpoint';
  epoch: number;
  path: string;
  kind: 'last' | 'best';
  /** Validation accuracy, by which the best one is chosen; of the averaged weights if the average says so. */
  metric?: number;
}

/** Outcome of a run. */
export interface TrainResult {
  /** Whole epochs done. */
  epochs: number;
  steps: number;
  /** The epoch with the best validation accuracy; null without a validation set. */
  best: { epoch: number; accuracy: number } | null;
  train: TrainScores | null;
  validation: Evaluation | null;
  test: Evaluation | null;
  /** Of the averaged weights; null without an average. */
  averaged: AveragedScores | null;
  /** Whether the model has the averaged weights now. The other scores are those of its own weights. */
  averageApplied: boolean;
  seconds: number;
  imagesPerSecond: number;
  peakMemoryBytes: number | null;
  skippedSteps: number;
  /** Newest checkpoint, to resume from; null when none was written. */
  checkpoint: string | null;
}

/** The run is over. Always the last event. */
export interface EndEvent {
  type: 'end';
  reason: 'finished' | 'stopped' | 'aborted';
  result: TrainResult;
}

/** Any event of a run. */
export type TrainEvent = StartEvent | StepEvent | EpochEvent | CheckpointEvent | EndEvent;

/** The last line of `events.jsonl` of a run that failed. Who follows the run gets the error itself in its place. */
export interface FailureEvent {
  type: 'end';
  reason: 'failed';
  error: { code: ErrorCode; message: string };
}

/** A line of `events.jsonl`. */
export type RecordedEvent = Exclude<TrainEvent, StepEvent> | FailureEvent;

/** What `await trainer.fit()` gives. */
export interface History {
  /** One entry per finished epoch of this run. */
  epochs: EpochEvent[];
  /** Checkpoints in the order in which they were written. */
  checkpoints: CheckpointEvent[];
  /** Folder of the run, or null when nothing was written. */
  runDir: string | null;
  /** Why the run ended; null in the partial history of a run that failed. */
  reason: EndEvent['reason'] | null;
  /** Outcome; null in the partial history of a run that failed. */
  result: TrainResult | null;
}

/** The history of a run that has ended. */
export type FinishedHistory = History & { reason: EndEvent['reason']; result: TrainResult };

/** A run was aborted through its signal. */
export class AbortError extends Error {
  override readonly name = 'AbortError';
  readonly code = 'ABORT_ERR';
  /** Newest checkpoint of the run, to resume from; null when none was written. */
  readonly checkpoint: string | null;
  /** The epochs that were finished. */
  readonly history: History;

  constructor(history: History, reason: unknown) {
    super('Training was aborted', { cause: reason });
    this.history = history;
    this.checkpoint = history.result?.checkpoint ?? history.checkpoints.at(-1)?.path ?? null;
  }
}
