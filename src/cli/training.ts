// From the options of a run to a Trainer that is ready to start, and what a run leaves in its folder beside the Trainer's files.
// `train`, `compare` and `demo` all train through this, so a run of one can be resumed or evaluated by another.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Dataset, type EpochEvent, type Model, models, Trainer } from '../index.js';
import { epochsOf, RUN_FILES, readEvents, readJson } from '../run-folder.js';
import { defaultModel, openSplit, zooOptionsFor } from './data.js';
import { type RunOptions, trainerOptions } from './fields.js';
import { planOptimizer, type Values } from './optimizers.js';

/** The images of a run, before any label noise. */
export interface Images {
  readonly train: Dataset;
  readonly test: Dataset | undefined;
}

type ImageOptions = Pick<RunOptions, 'data' | 'dataDir' | 'test' | 'trainImages' | 'testImages'>;

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
}

/** How a run is recorded; it does not change what it computes. */
interface Recording {
  readonly runDir?: string | undefined;
  readonly tensorboard?: boolean;
  readonly stepEventMs: number;
}

/** Checks the options and gives the function that makes the Trainer; wrong options are told before images are opened. */
export function planTraining(options: RunOptions): (images: Images, recording: Recording) => Training {
  const [{ create }, settings] = [planOptimizer(options), trainerOptions(options)];
  return (images, { runDir, tensorboard = false, stepEventMs }) => {
    const { train, validation } = splitOff(images.train, options);
    const { dtype, seed } = options;
    const model = models.create(modelName(options), { ...zooOptionsFor(images.train), dtype, seed });
    const trainer = new Trainer({
      ...{ model, optimizer: create(model), train, ...settings, stepEventMs, tensorboard },
      ...(validation !== undefined && { validation }),
      ...(images.test !== undefined && { test: images.test }),
      ...(runDir !== undefined && { runDir }),
    });
    return { model, trainer, images: train.length, [Symbol.dispose]: () => model.dispose() };
  };
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
