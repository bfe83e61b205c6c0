// The events of one run, kept so that any number of readers can follow it at their own speed.
// Step events are coalesced (the latest wins); all others are kept, few as they are, and every reader gets each of them.

import type { StepEvent, TrainEvent } from './events.js';

type KeptEvent = Exclude<TrainEvent, StepEvent>;

/** Written by the run, read by any number of iterators. */
export class EventLog {
  readonly #kept: KeptEvent[] = [];
  #latestStep: { event: StepEvent; after: number; serial: number } | undefined;
  #serial = 0;
  #outcome: { error?: unknown } | undefined;
  #wake: PromiseWithResolvers | undefined;

  /** Adds an event; a step event replaces the one before it. */
  push(event: TrainEvent): void {
    this.#serial += 1;
    if (event.type === 'step') this.#latestStep = { event, after: this.#kept.length, serial: this.#serial };
    else this.#kept.push(event);
    this.#notify();
  }

  /** No more events; readers finish, or throw `error` after the last event. */
  close(outcome: { error?: unknown } = {}): void {
    this.#outcome ??= outcome;
    this.#notify();
  }

  /** A reader that sees every kept event from the first one on. Leaving it only detaches this reader. */
  async *read(): AsyncGenerator<TrainEvent, void, undefined> {
    let position = 0;
    let seenStep = 0;
    for (;;) {
      const kept = this.#kept[position];
      const step = this.#latestStep;
      if (step && step.serial > seenStep && step.after === position) {
        seenStep = step.serial;
        yield step.event;
      } else if (kept) {
        position += 1;
        yield kept;
      } else if (this.#outcome) {
        if ('error' in this.#outcome) throw this.#outcome.error;
        return;
      } else {
        await this.#changed();
      }
    }
  }

  #changed(): Promise<void> {
    this.#wake ??= withResolvers();
    return this.#wake.promise;
  }

  #notify(): void {
    this.#wake?.resolve();
    this.#wake = undefined;
  }
}

interface PromiseWithResolvers {
  promise: Promise<void>;
  resolve: () => void;
}

/** `Promise.withResolvers` for Node 20. */
function withResolvers(): PromiseWithResolvers {
  let resolve = (): void => {};
  const promise = new Promise<void>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}
