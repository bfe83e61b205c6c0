// Records the learning rate of each epoch, so that a schedule can be looked at after (or while) a run uses it.

import type { EpochEvent } from '../events.js';
import type { Callback } from './callback.js';

/** Learning rate at the end of one epoch. */
export interface LearningRateRecord {
  epoch: number;
  lr: number;
}

/** Keeps `{ epoch, lr }` of every epoch, and calls `onChange` when the rate differs from the epoch before. */
export class LearningRateMonitor implements Callback {
  readonly records: LearningRateRecord[] = [];
  readonly #onChange: ((record: LearningRateRecord) => void) | undefined;

  constructor(options: { onChange?: (record: LearningRateRecord) => void } = {}) {
    this.#onChange = options.onChange;
  }

  onEpochEnd({ epoch, lr }: EpochEvent): void {
    const changed = this.records.at(-1)?.lr !== lr;
    this.records.push({ epoch, lr });
    if (changed) this.#onChange?.({ epoch, lr });
  }
}
