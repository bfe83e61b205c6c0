// What a callback is: an object with hooks under Keras's names, and the control that each hook gets.
// Hooks are awaited; they run when training begins, at epoch ends and when it has ended, never inside an epoch.

import type { EpochEvent, FinishedHistory, StartEvent } from '../events.js';
import type { Model } from '../model.js';
import type { Optimizer } from '../optimizer.js';

/** What a hook can do to the run. */
export interface TrainControl {
  readonly model: Model;
  readonly optimizer: Optimizer;
  /** Ends the run after this epoch; it then resolves normally, with reason `stopped`. */
  stop(): void;
  /** Sets the learning rate, before the schedule's factor, from the next step on. */
  setLearningRate(lr: number): void;
}

/** Hooks into a run. Training waits for each of them; an error from a hook ends the run and is thrown by it. */
export interface Callback {
  onTrainBegin?(event: StartEvent, control: TrainControl): void | Promise<void>;
  onEpochEnd?(event: EpochEvent, control: TrainControl): void | Promise<void>;
  /** The model is free again: weights may be loaded. */
  onTrainEnd?(history: FinishedHistory, control: Pick<TrainControl, 'model' | 'optimizer'>): void | Promise<void>;
}
