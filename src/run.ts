// A training run as JavaScript sees it: a promise of the history and an iterable of events, fed by one pump.
// The pump always reads, so a run that nobody follows goes on at full speed; `break` only detaches the reader.

import { call } from './call.js';
import type { Callback, TrainControl } from './callbacks/callback.js';
import { EventLog } from './event-log.js';
import {
  AbortError,
  type EpochEvent,
  type FinishedHistory,
  type History,
  type StartEvent,
  type TrainEvent,
} from './events.js';
import type { BindingRun } from './native/binding.js';
import { nonNegative } from './options/fields.js';
import { parseOptions } from './options/parse.js';
import { withNumbers } from './run-folder.js';
import type { TensorBoardRecorder } from './tensorboard/recorder.js';

/** What a run needs to begin. */
export interface RunPlan {
  /** Resolves data sets and starts the native run. */
  start: () => Promise<BindingRun>;
  /** Called once when the run is over, however it ended. */
  ended: () => void;
  callbacks: readonly Callback[];
  /** Writes TensorBoard files, if they are asked for. */
  recorder: TensorBoardRecorder | undefined;
  control: Pick<TrainControl, 'model' | 'optimizer'>;
  signal: AbortSignal | undefined;
}

/**
 * A run. `await run` gives its history, `for await (const event of run)` its events; both may be used, in any order.
 * The history's promise rejects with AbortError when the signal was aborted, and with FlatminError when training failed.
 */
export class Run implements PromiseLike<FinishedHistory>, AsyncIterable<TrainEvent> {
  readonly #log = new EventLog();
  readonly #history: History = { epochs: [], checkpoints: [], runDir: null, reason: null, result: null };
  readonly #plan: RunPlan;
  readonly #outcome: Promise<FinishedHistory>;
  #native: BindingRun | undefined;
  #halt: 'stop' | 'abort' | undefined;

  /** @internal Use `trainer.fit()` or `trainer.resume()`. */
  constructor(plan: RunPlan) {
    this.#plan = plan;
    this.#outcome = this.#conduct();
  }

  // biome-ignore lint/suspicious/noThenProperty: a run is awaitable by design
  then<A = FinishedHistory, B = never>(
    onFulfilled?: ((history: FinishedHistory) => A | PromiseLike<A>) | null,
    // biome-ignore lint/suspicious/noExplicitAny: as in Promise
    onRejected?: ((reason: any) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#outcome.then(onFulfilled, onRejected);
  }

  // biome-ignore lint/suspicious/noExplicitAny: as in Promise
  catch<B = never>(onRejected?: ((reason: any) => B | PromiseLike<B>) | null): Promise<FinishedHistory | B> {
    return this.#outcome.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<FinishedHistory> {
    return this.#outcome.finally(onFinally);
  }

  /** All events from the first on. Epoch, checkpoint and end events are never lost; of step events the latest wins. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainEvent, void, undefined> {
    // Whoever iterates gets the error there; the promise alone must not count as unhandled then.
    this.#outcome.catch(() => {});
    return this.#log.read();
  }

  /** Ends the run after the step it is in; it then resolves normally, with reason `stopped`. */
  stop(): void {
    this.#request('stop');
  }

  /** The history so far. */
  get history(): History {
    return this.#history;
  }

  async #conduct(): Promise<FinishedHistory> {
    const { signal } = this.#plan;
    const abort = (): void => this.#request('abort');
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const history = await this.#train(signal);
      this.#log.close();
      return history;
    } catch (error) {
      this.#log.close({ error });
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#plan.ended();
    }
  }

  async #train(signal: AbortSignal | undefined): Promise<FinishedHistory> {
    if (signal?.aborted) throw new AbortError(this.#history, signal.reason);
    const native = await this.#plan.start();
    this.#native = native;
    if (this.#halt) native[this.#halt]();
    await this.#pump(native);
    if (this.#history.reason === 'aborted') throw new AbortError(this.#history, signal?.reason);
    const history = this.#history as FinishedHistory;
    for (const callback of this.#plan.callbacks) await callback.onTrainEnd?.(history, this.#plan.control);
    return history;
  }

  /** Reads all native events. An error of a callback or recorder ends the run; what is left is drained before the error goes on. */
  async #pump(native: BindingRun): Promise<void> {
    let failure: { error: unknown } | undefined;
    for (;;) {
      const event = (await call(() => native.next())) as TrainEvent | null;
      if (event === null) break;
      this.#record(withNumbers(event));
      if (failure) continue;
      try {
        await this.#plan.recorder?.record(event);
        await this.#callBack(native, event);
      } catch (error) {
        failure = { error };
        native.abort();
      }
    }
    if (failure) throw failure.error;
  }

  #record(event: TrainEvent): void {
    if (event.type === 'start') this.#history.runDir = event.runDir;
    if (event.type === 'epoch') this.#history.epochs.push(event);
    if (event.type === 'checkpoint') this.#history.checkpoints.push(event);
    if (event.type === 'end') Object.assign(this.#history, { reason: event.reason, result: event.result });
    this.#log.push(event);
  }

  async #callBack(native: BindingRun, event: TrainEvent): Promise<void> {
    const { callbacks } = this.#plan;
    if (callbacks.length === 0 || (event.type !== 'start' && event.type !== 'epoch')) return;
    const answer: { stop: boolean; lr?: number } = { stop: false };
    const control: TrainControl = {
      ...this.#plan.control,
      stop: () => {
        answer.stop = true;
      },
      setLearningRate: (lr) => {
        answer.lr = parseOptions(nonNegative, lr, 'control.setLearningRate lr');
      },
    };
    for (const callback of callbacks) await callHook(callback, event, control);
    if (event.type === 'epoch') native.acknowledge(answer);
    else this.#afterBegin(answer);
  }

  /** What onTrainBegin asked for; training does not wait for it, so it takes effect a few steps in. */
  #afterBegin(answer: { stop: boolean; lr?: number }): void {
    if (answer.stop) this.stop();
    const group = this.#plan.control.optimizer.groups[0];
    if (answer.lr !== undefined && group) group.lr = answer.lr;
  }

  #request(halt: 'stop' | 'abort'): void {
    if (this.#halt) return;
    this.#halt = halt;
    this.#native?.[halt]();
  }
}

async function callHook(callback: Callback, event: StartEvent | EpochEvent, control: TrainControl): Promise<void> {
  if (event.type === 'start') await callback.onTrainBegin?.(event, control);
  else await callback.onEpochEnd?.(event, control);
}
