// Saves the model as safetensors at epoch ends: every epoch, or when the monitored value improves.
// The Trainer's own checkpoints (for resuming) are separate and need no callback.

import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { EpochEvent } from '../events.js';
import { path } from '../options/fields.js';
import { parseOptions } from '../options/parse.js';
import type { Callback, TrainControl } from './callback.js';
import { Monitor, monitorFields } from './monitor.js';

/** Options of {@link ModelCheckpoint}. */
export const modelCheckpointSchema = z.strictObject({
  path: path.describe(
    "File to write, its folder is made when missing; '{epoch}' in it becomes the number of the epoch",
  ),
  saveBestOnly: z.boolean().default(false).describe('Save only when the monitored value improves'),
  ...monitorFields,
});

/** Saves the model while it trains. */
export class ModelCheckpoint implements Callback {
  readonly #options: z.output<typeof modelCheckpointSchema>;
  #monitor: Monitor;
  #lastPath: string | null = null;

  constructor(options: z.input<typeof modelCheckpointSchema>) {
    this.#options = parseOptions(modelCheckpointSchema, options, 'ModelCheckpoint');
    this.#monitor = new Monitor(this.#options);
  }

  /** The file written last, or null. */
  get lastPath(): string | null {
    return this.#lastPath;
  }

  onTrainBegin(): void {
    this.#monitor = new Monitor(this.#options);
  }

  async onEpochEnd(event: EpochEvent, { model }: TrainControl): Promise<void> {
    if (this.#options.saveBestOnly && !this.#monitor.improved(event)) return;
    const file = this.#options.path.replaceAll('{epoch}', String(event.epoch));
    await mkdir(dirname(file), { recursive: true });
    await model.save(file);
    this.#lastPath = file;
  }
}
