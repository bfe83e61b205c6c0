// Records what schedules change: learning rate, rho and momentum of each epoch, to look at after (or during) a run.

import type { EpochEvent } from '../events.js';
import type { Callback } from './callback.js';

/** What was in force in the first group at the last step of one epoch. */
export type LearningRateRecord = Pick<EpochEvent, 'epoch' | 'lr' | 'rho' | 'momentum'>;

/** Keeps a record of every epoch, and calls `onChange` when a value differs from the epoch before. */
export class LearningRateMonitor implements Callback {
  readonly records: LearningRateRecord[] = [];
  readonly #onChange: ((record: LearningRateRecord) => void) | undefined;

  constructor(options: { onChange?: (record: LearningRateRecord) => void } = {}) {
    this.#onChange = options.onChange;
  }

  onEpochEnd({ epoch, lr, rho, momentum }: EpochEvent): void {
    const record = { epoch, lr, rho, momentum };
    const before = this.records.at(-1);
    this.records.push(record);
    if (before?.lr !== lr || before.rho !== rho || before.momentum !== momentum) this.#onChange?.(record);
  }
}
