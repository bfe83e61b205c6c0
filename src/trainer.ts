// The Trainer: model, optimizer, data and options of training, checked when it is made. Training itself runs natively,
// on its own thread; `fit` and `resume` start it.

import { z } from 'zod';
import { call } from './call.js';
import type { Callback } from './callbacks/callback.js';
import { Dataset, type DatasetSource, nativeDataset, resolveDataset } from './dataset.js';
import { settleDevice } from './device.js';
import type { Engine } from './engine.js';
import { describeEnvironment } from './environment.js';
import { FlatminError } from './errors.js';
import { type Model, nativeModel, requireModel } from './model.js';
import type { BindingDataset, BindingRun } from './native/binding.js';
import { loadNative } from './native/index.js';
import { type Optimizer, outermostEngine } from './optimizer.js';
import { path } from './options/fields.js';
import { parseOptions, show } from './options/parse.js';
import { type TrainingConfig, type TrainingOptions, trainerSchema } from './options/trainer.js';
import { Run } from './run.js';
import { thisProcess } from './run-process.js';
import { TensorBoardRecorder } from './tensorboard/recorder.js';

/** Options of {@link Trainer}: the live objects, and everything of {@link TrainingOptions}. */
export interface TrainerOptions extends TrainingOptions {
  model: Model;
  /** Must be an optimizer of `model`. Give the wrapper, not the base optimizer inside it. */
  optimizer: Optimizer;
  /** Training set. */
  train: DatasetSource;
  /** Validation set, on which the best epoch is chosen; or the share of the training set that is held out, by seed. */
  validation?: DatasetSource | number | undefined;
  /** Test set: measured at each epoch, never chosen on. */
  test?: DatasetSource | undefined;
  callbacks?: readonly Callback[] | undefined;
}

/** Options of {@link Trainer.fit} and {@link Trainer.resume}. */
export interface FitOptions {
  /** Aborts the run: it then rejects with {@link AbortError}. */
  signal?: AbortSignal | undefined;
}

interface Data {
  train: BindingDataset;
  validation?: BindingDataset;
  test?: BindingDataset;
}

const live = z.any().optional();
const optionsSchema = trainerSchema.extend({
  model: live,
  optimizer: live,
  train: live,
  validation: live,
  test: live,
  callbacks: live,
});

/** Trains a model: `await new Trainer({ model, optimizer, train }).fit()`. */
export class Trainer {
  readonly model: Model;
  readonly optimizer: Optimizer;
  /** The options that can be written down, defaults filled in. */
  readonly config: Readonly<TrainingConfig>;
  readonly #engine: Engine;
  readonly #sources: {
    train: DatasetSource;
    validation: DatasetSource | number | undefined;
    test: DatasetSource | undefined;
  };
  readonly #callbacks: readonly Callback[];
  #data: Promise<Data> | undefined;
  #running = false;

  /** @throws `ERR_FLATMIN_OPTION` for an option that is missing, unknown or out of range. */
  constructor(options: TrainerOptions) {
    const {
      model,
      optimizer,
      train,
      validation,
      test,
      callbacks = [],
      ...config
    } = parseOptions(optionsSchema, options, 'Trainer');
    if (config.tensorboard && config.runDir === undefined) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        "Trainer option 'tensorboard': found true without a run folder, expected 'runDir', where the files go",
      );
    }
    this.config = config;
    this.model = requireModel(model, 'Trainer model');
    const outermost = outermostEngine(optimizer, 'Trainer optimizer');
    this.optimizer = outermost.optimizer;
    this.#engine = outermost.engine;
    if (this.#engine.model !== model) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        'Trainer optimizer: found an optimizer of another model, expected one made for the given model',
      );
    }
    this.#sources = {
      train: checkSource(train, 'train'),
      validation: typeof validation === 'number' ? checkShare(validation) : checkOptional(validation, 'validation'),
      test: checkOptional(test, 'test'),
    };
    this.#callbacks = checkCallbacks(callbacks);
  }

  /** Starts training. The run can be awaited, iterated and stopped. */
  fit(options: FitOptions = {}): Run {
    return this.#run(options, 'fit');
  }

  /**
   * Goes on from a checkpoint, or from the newest one of a run folder, as if the run had never stopped: on a CPU the result is
   * the same bit for bit.
   */
  resume(dir: string, options: FitOptions = {}): Run {
    return this.#run(options, 'resume', parseOptions(path, dir, 'trainer.resume dir'));
  }

  #run(options: FitOptions, method: string, resume?: string): Run {
    const signal = options?.signal;
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `trainer.${method} option 'signal': found ${show(signal)}, expected an AbortSignal`,
      );
    }
    if (this.#running) {
      throw new FlatminError(
        'ERR_FLATMIN_BUSY',
        `trainer.${method}: this trainer has a run in progress; await it or stop it first`,
      );
    }
    const { tensorboard, runDir } = this.config;
    this.#running = true;
    return new Run({
      start: () => this.#start(resume),
      ended: () => {
        this.#running = false;
      },
      callbacks: this.#callbacks,
      recorder: tensorboard && runDir !== undefined ? new TensorBoardRecorder(runDir) : undefined,
      control: { model: this.model, optimizer: this.optimizer },
      signal,
    });
  }

  async #start(resume: string | undefined): Promise<BindingRun> {
    this.#data ??= this.#resolveData();
    const data = await this.#data.catch((error: unknown) => {
      this.#data = undefined;
      throw error;
    });
    await this.#move();
    const { tensorboard: _, device: __, ...own } = this.config;
    return call(() => {
      const config = {
        ...own,
        awaitEpochEnd: this.#callbacks.some((callback) => callback.onEpochEnd),
        environment: {
          ...describeEnvironment(this.model.device),
          ...{ date: new Date().toISOString(), process: thisProcess() },
        },
      };
      return loadNative().BindingRun.start(nativeModel(this.model), this.#engine.native, data, config, resume);
    });
  }

  /** Brings the model to where the options want it trained. */
  async #move(): Promise<void> {
    const { device } = this.config;
    if (device === undefined) return;
    const [wanted, native] = [settleDevice(device), nativeModel(this.model)];
    if (native.device === wanted) return;
    if (this.#engine.started) {
      throw new FlatminError(
        'ERR_FLATMIN_DEVICE',
        `Trainer option 'device': found '${wanted}', but the optimizer has made steps on '${native.device}', where its state is; expected that device, or a new optimizer`,
      );
    }
    await call(() => native.to(wanted));
  }

  async #resolveData(): Promise<Data> {
    const { train: source, validation, test } = this.#sources;
    const data: Data = { train: nativeDataset(await resolveDataset(source, 'Trainer train')) };
    if (typeof validation === 'number') {
      const [kept, heldOut] = new Dataset(data.train).split([1 - validation, validation], { seed: this.config.seed });
      data.train = nativeDataset(kept);
      data.validation = nativeDataset(heldOut);
    } else if (validation !== undefined) {
      data.validation = nativeDataset(await resolveDataset(validation, 'Trainer validation'));
    }
    if (test !== undefined) data.test = nativeDataset(await resolveDataset(test, 'Trainer test'));
    return data;
  }
}

function checkSource(source: unknown, name: string): DatasetSource {
  const isPromise = typeof source === 'object' && source !== null && 'then' in source;
  if (isPromise) {
    // Reported by the run that needs the data set; until then it must not count as unhandled.
    Promise.resolve(source).catch(() => {});
    return source as PromiseLike<Dataset>;
  }
  if (source instanceof Dataset) return source;
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `Trainer option '${name}': found ${show(source)}, expected a Dataset such as datasets.digits()`,
  );
}

function checkOptional(source: unknown, name: string): DatasetSource | undefined {
  return source === undefined || source === null ? undefined : checkSource(source, name);
}

function checkShare(share: number): number {
  if (share > 0 && share < 1) return share;
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `Trainer option 'validation': found ${share}, expected a share between 0 and 1, or a Dataset`,
  );
}

function checkCallbacks(callbacks: unknown): readonly Callback[] {
  if (Array.isArray(callbacks) && callbacks.every((callback) => typeof callback === 'object' && callback !== null))
    return [...callbacks];
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `Trainer option 'callbacks': found ${show(callbacks)}, expected a list of callbacks`,
  );
}
