// One parameter group of an optimizer, with settings that can be read and written at any time: `optimizer.groups[0].lr = 0.01`.

import { FlatminError } from './errors.js';
import { show } from './options/parse.js';

/** Settings of a group. Momentum exists for SGD, rho for SAM and ASAM. */
export interface GroupSettings {
  lr: number;
  weightDecay: number;
  momentum?: number | null;
  rho?: number | null;
}

/** Reads and writes one setting of one group. */
export interface GroupStore {
  read(index: number): GroupSettings;
  write(index: number, key: keyof GroupSettings, value: number): void;
}

/** A parameter group. What is written holds from the next step on; a schedule's factor comes on top of `lr`. */
export class ParameterGroup {
  readonly #store: GroupStore;
  readonly #index: number;

  /** @internal */
  constructor(store: GroupStore, index: number) {
    this.#store = store;
    this.#index = index;
  }

  /** Learning rate, before the schedule's factor. */
  get lr(): number {
    return this.#store.read(this.#index).lr;
  }

  set lr(value: number) {
    this.#write('lr', value);
  }

  get weightDecay(): number {
    return this.#store.read(this.#index).weightDecay;
  }

  set weightDecay(value: number) {
    this.#write('weightDecay', value);
  }

  /** Momentum of SGD; null for other optimizers. */
  get momentum(): number | null {
    return this.#store.read(this.#index).momentum ?? null;
  }

  set momentum(value: number) {
    this.#write('momentum', value);
  }

  /** Radius of the neighbourhood of SAM and ASAM; null for other optimizers. */
  get rho(): number | null {
    return this.#store.read(this.#index).rho ?? null;
  }

  set rho(value: number) {
    this.#write('rho', value);
  }

  #write(key: keyof GroupSettings, value: number): void {
    const name = `optimizer.groups[${this.#index}].${key}`;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw new FlatminError('ERR_FLATMIN_OPTION', `${name}: found ${show(value)}, expected a number of at least 0`);
    }
    if ((this.#store.read(this.#index)[key] ?? null) === null) {
      throw new FlatminError('ERR_FLATMIN_OPTION', `${name}: found ${value}, but this optimizer has no ${key}`);
    }
    this.#store.write(this.#index, key, value);
  }
}
