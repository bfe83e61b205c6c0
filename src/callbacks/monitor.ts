// The value that a callback watches, named by its place in the epoch event: 'validation.accuracy', 'averaged.test.loss'.
// Losses, gaps and sharpness are better when low, the other values when high, unless the caller says so.

import { z } from 'zod';
import { FlatminError } from '../errors.js';
import type { EpochEvent } from '../events.js';
import { suggestion } from '../options/parse.js';

const sets = ['train', 'validation', 'test', 'averaged.validation', 'averaged.test'] as const;
const perSet = ['loss', 'accuracy', 'top5', 'ece'] as const;
const plain = ['generalizationGap', 'sharpness'] as const;
const names: string[] = [...sets.flatMap((set) => perSet.map((metric) => `${set}.${metric}`)), ...plain];

/** Options that EarlyStopping and ModelCheckpoint share. */
export const monitorFields = {
  monitor: z
    .string()
    .refine((name) => names.includes(name), {
      error: (issue) => `one of ${names.join(', ')}${suggestion(String(issue.input), names)}`,
    })
    .default('validation.loss')
    .describe('Value of the epoch event to watch'),
  mode: z.enum(['auto', 'min', 'max']).default('auto').describe('Whether a lower or a higher value is better'),
  minDelta: z.number().min(0).default(0).describe('Smallest change that counts as better'),
};

/** Remembers the best value so far. */
export class Monitor {
  best: number | null = null;
  bestEpoch = 0;
  readonly #name: string;
  readonly #sign: 1 | -1;
  readonly #minDelta: number;

  constructor(options: { monitor: string; mode: 'auto' | 'min' | 'max'; minDelta: number }) {
    this.#name = options.monitor;
    const lower = options.mode === 'auto' ? /loss|gap|sharpness|ece/i.test(options.monitor) : options.mode === 'min';
    this.#sign = lower ? -1 : 1;
    this.#minDelta = options.minDelta;
  }

  /** Reads the value of this epoch; whether it is better than every one before it. NaN is never better. */
  improved(event: EpochEvent): boolean {
    const value = this.#value(event);
    const better = this.best === null ? !Number.isNaN(value) : this.#sign * (value - this.best) > this.#minDelta;
    if (better) {
      this.best = value;
      this.bestEpoch = event.epoch;
    }
    return better;
  }

  #value(event: EpochEvent): number {
    const value = this.#name
      .split('.')
      .reduce<unknown>((place, key) => (place as Record<string, unknown> | undefined)?.[key], event);
    if (typeof value === 'number') return value;
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `The epoch event has no '${this.#name}' to monitor: give the Trainer the data set or the metric it needs, or monitor another value`,
    );
  }
}
