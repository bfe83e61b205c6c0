// Writes one line of comma-separated values for each epoch, ready for a spreadsheet or pandas.

import { appendFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { EpochEvent, StartEvent } from '../events.js';
import { path } from '../options/fields.js';
import { parseOptions } from '../options/parse.js';
import type { Callback } from './callback.js';

/** Options of {@link CSVLogger}. */
export const csvLoggerSchema = z.strictObject({
  path: path.describe('File to write; its folder is made when it is missing'),
  append: z.boolean().default(false).describe('Keep what the file holds; a resumed run always does'),
});

/** Column, and its value in an epoch event. */
const columns: [name: string, value: (event: EpochEvent) => number | null | undefined][] = [
  ['epoch', (event) => event.epoch],
  ['lr', (event) => event.lr],
  ['train_loss', (event) => event.train.loss],
  ['train_accuracy', (event) => event.train.accuracy],
  ['validation_loss', (event) => event.validation?.loss],
  ['validation_accuracy', (event) => event.validation?.accuracy],
  ['test_loss', (event) => event.test?.loss],
  ['test_accuracy', (event) => event.test?.accuracy],
  ['generalization_gap', (event) => event.generalizationGap],
  ['sharpness', (event) => event.sharpness],
  ['images_per_second', (event) => event.imagesPerSecond],
  ['seconds', (event) => event.seconds],
  ['skipped_steps', (event) => event.skippedSteps],
];

/** Logs epochs as CSV; a value that a run lacks is an empty cell. */
export class CSVLogger implements Callback {
  readonly #options: z.output<typeof csvLoggerSchema>;

  constructor(options: z.input<typeof csvLoggerSchema>) {
    this.#options = parseOptions(csvLoggerSchema, options, 'CSVLogger');
  }

  async onTrainBegin(event: StartEvent): Promise<void> {
    await mkdir(dirname(this.#options.path), { recursive: true });
    const header = `${columns.map(([name]) => name).join(',')}\n`;
    if (event.resumedFrom === null && !this.#options.append) return writeFile(this.#options.path, header);
    try {
      await writeFile(this.#options.path, header, { flag: 'wx' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }

  async onEpochEnd(event: EpochEvent): Promise<void> {
    await appendFile(this.#options.path, `${columns.map(([, value]) => value(event) ?? '').join(',')}\n`);
  }
}
