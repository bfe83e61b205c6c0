// From the options of a run to a Trainer that is ready to start, and what a run leaves in its folder beside the Trainer's files.
// `train`, `compare` and `demo` all train through this, so a run of one can be resumed or evaluated by another.
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type Callback,
  type Dataset,
  type EpochEvent,
  type LoadReport,
  type Model,
  models,
  Trainer,
} from '../index.js';
import { epochsOf, RUN_FILES, readEvents, readJson } from '../run-folder.js';
import { defaultModel, openSplit, zooOptionsFor } from './data.js';
import { type DataOptions, type RunOptions, trainerOptions } from './fields.js';
import { planOptimizer, type Values } from './optimizers.js';
import { findPretrained } from './weights.js';

/** The images of a run, before any label noise. */
export interface Images {
  readonly train: Dataset;
  readonly test: Dataset | undefined;
}

type ImageOptions = DataOptions & Pick<RunOptions, 'test' | 'trainImages' | 'testImages'>;

/** Opens the images that the options name; runs that share them open them once. */
export async function openImages(options: ImageOptions): Promise<Images> {
  const first = (images: Dataset, count: number | undefined) => (count === undefined ? images : images.take(count));
  const [train, test] = await Promise.all([
    openSplit(options, 'train'),
    options.test ? openSplit(options, 'test') : undefined,
  ]);
  return { train: first(train, options.trainImages), test: test && first(test, options.testImages) };
}

/** Holds out the validation images before labels get noise: the best checkpoint is chosen on right labels. */
function splitOff(
  images: Dataset,
  { validation, labelNoise, seed }: RunOptions,
): { train: Dataset; validation: Dataset | undefined } {
  const [train = images, heldOut] = validation > 0 ? images.split([1 - validation, validation], { seed }) : [images];
  return { train: labelNoise > 0 ? train.withLabelNoise(labelNoise, { seed }) : train, validation: heldOut };
}

/** A model and its Trainer. */
export interface Training extends Disposable {
  readonly model: Model;
  readonly trainer: Trainer;
  /** Images of the training set that are left after holding out. */
  readonly images: number;
  /** What of the weights that it starts from did not fit; nothing when it starts from none. */
  readonly loaded: LoadReport | undefined;
}

/** How a run is recorded and watched. */
interface Recording {
  readonly runDir?: string | undefined;
  readonly tensorboard?: boolean;
  readonly stepEventMs: number;
  readonly callbacks?: readonly Callback[];
}

/** Checks the options and gives the function that makes the Trainer; wrong options are told before images are opened. */
export function planTraining(options: RunOptions): (images: Images, recording: Recording) => Promise<Training> {
  const [{ create }, settings] = [planOptimizer(options), trainerOptions(options)];
  return async (images, { runDir, tensorboard = false, stepEventMs, callbacks = [] }) => {
    const { train, validation } = splitOff(images.train, options);
    const { model, loaded } = await makeModel(options, images.train);
    const trainer = new Trainer({
      ...{ model, optimizer: create(model), train, ...settings, stepEventMs, callbacks, tensorboard },
      ...(validation !== undefined && { validation }),
      ...(images.test !== undefined && { test: images.test }),
      ...(runDir !== undefined && { runDir }),
    });
    return { model, trainer, images: train.length, loaded, [Symbol.dispose]: () => model.dispose() };
  };
}

/** The model of a run, with the weights that it starts from, if any, and its frozen parts. */
async function makeModel(options: RunOptions, images: Dataset): Promise<Pick<Training, 'model' | 'loaded'>> {
  const { dtype, seed, weights, freeze } = options;
  const name = modelName(options);
  const pretrained = weights === undefined ? undefined : findPretrained(weights, name, images, options);
  const { normalization = images.normalization } = pretrained ?? {};
  const model = models.create(name, { ...zooOptionsFor(images), normalization, dtype, seed });
  const loaded = await pretrained?.load(model);
  if (freeze !== undefined) model.freeze(freeze);
  return { model, loaded };
}

/** Name of the model that a run trains. */
export const modelName = ({ model, data }: Pick<RunOptions, 'model' | 'data'>) => model ?? defaultModel(data);

/** Keeps a run's options in its folder, so that `train --resume` and `--config` can start from them. */
export async function saveOptions(runDir: string, options: Values): Promise<void> {
  await mkdir(runDir, { recursive: true });
  await writeFile(optionsFile(runDir), `${JSON.stringify(options, undefined, 2)}\n`);
}

/** Where a run's options lie. */
export const optionsFile = (runDir: string) => join(runDir, RUN_FILES.options);

/** Where the weights of an epoch lie, if a run keeps them. */
export const keptWeights = (runDir: string, epoch: number | string) =>
  join(runDir, 'weights', `epoch-${epoch}.safetensors`);

/** The weights that a run has kept, epoch by epoch. */
export function findKeptWeights(runDir: string): string[] {
  const folder = dirname(keptWeights(runDir, 1));
  const epochs = existsSync(folder)
    ? readdirSync(folder).flatMap((name) => /^epoch-(\d+)\.safetensors$/.exec(name)?.[1] ?? [])
    : [];
  return epochs
    .map(Number)
    .sort((a, b) => a - b)
    .map((epoch) => keptWeights(runDir, epoch));
}

/** What a run folder tells about its run. */
export interface KeptRun {
  readonly options: Values;
  /** The epochs that are done. */
  readonly epochs: readonly EpochEvent[];
  readonly finished: boolean;
  /** Whether there is a checkpoint to go on from. */
  readonly resumable: boolean;
}

/** Reads a run folder; nothing when no run was begun in it. */
export function readRun(runDir: string): KeptRun | undefined {
  if (!existsSync(optionsFile(runDir))) return undefined;
  const events = readEvents(runDir);
  const last = events.at(-1);
  return {
    options: readJson(optionsFile(runDir)) as Values,
    epochs: epochsOf(events),
    finished: last?.type === 'end' && last.reason === 'finished',
    resumable: existsSync(join(runDir, 'checkpoints', 'last', 'state.json')),
  };
}
