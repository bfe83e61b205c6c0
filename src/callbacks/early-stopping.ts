// Ends a run when the monitored value has stopped to improve.

import { z } from 'zod';
import type { EpochEvent, FinishedHistory } from '../events.js';
import type { StateDict } from '../model.js';
import { parseOptions } from '../options/parse.js';
import type { Callback, TrainControl } from './callback.js';
import { Monitor, monitorFields } from './monitor.js';

/** Options of {@link EarlyStopping}. */
export const earlyStoppingSchema = z.strictObject({
  ...monitorFields,
  patience: z.int().min(0).default(0).describe('Epochs without improvement that are allowed'),
  restoreBestWeights: z
    .boolean()
    .default(false)
    .describe('Give the model the weights of its best epoch when the run ends'),
});

/** Stops after `patience` epochs without improvement. */
export class EarlyStopping implements Callback {
  readonly #options: z.output<typeof earlyStoppingSchema>;
  #monitor: Monitor;
  #bestWeights: StateDict | undefined;
  #stoppedEpoch: number | null = null;

  constructor(options: z.input<typeof earlyStoppingSchema> = {}) {
    this.#options = parseOptions(earlyStoppingSchema, options, 'EarlyStopping');
    this.#monitor = new Monitor(this.#options);
  }

  /** Epoch at which the run was stopped, or null. */
  get stoppedEpoch(): number | null {
    return this.#stoppedEpoch;
  }

  /** Best epoch so far; 0 before the first. */
  get bestEpoch(): number {
    return this.#monitor.bestEpoch;
  }

  onTrainBegin(): void {
    this.#monitor = new Monitor(this.#options);
    this.#stoppedEpoch = null;
    this.#keep(undefined);
  }

  async onEpochEnd(event: EpochEvent, control: TrainControl): Promise<void> {
    if (this.#monitor.improved(event)) {
      if (this.#options.restoreBestWeights) this.#keep(await control.model.stateDict());
    } else if (event.epoch - this.#monitor.bestEpoch > this.#options.patience) {
      this.#stoppedEpoch = event.epoch;
      control.stop();
    }
  }

  async onTrainEnd(_history: FinishedHistory, { model }: Pick<TrainControl, 'model'>): Promise<void> {
    if (this.#bestWeights) await model.loadStateDict(this.#bestWeights);
    this.#keep(undefined);
  }

  #keep(weights: StateDict | undefined): void {
    for (const tensor of Object.values(this.#bestWeights ?? {})) tensor.dispose();
    this.#bestWeights = weights;
  }
}
