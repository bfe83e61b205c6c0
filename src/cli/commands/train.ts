// `flatmin train`: trains a model of the zoo on a named data set and keeps checkpoints and a report in a run folder.
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Dataset, type FinishedHistory, models, Trainer } from '../../index.js';
import { dtype, path } from '../../options/fields.js';
import { type Context, defineCommand } from '../command.js';
import { defaultModel, openSplit, zooOptionsFor } from '../data.js';
import { describeEnvironment } from '../environment.js';
import { EXIT } from '../failure.js';
import { dataFields, optimizerFields, planOptimizer, trainerOptions, trainingFields } from '../fields.js';
import { follow } from '../follow.js';

const schema = z.strictObject({
  model: z.string().optional().describe('Name of the model (default: demo for digits, resnet20 for CIFAR)'),
  ...dataFields,
  ...optimizerFields,
  ...trainingFields,
  dtype,
  runDir: path.optional().describe('Run folder (default: runs/<data>-<model>-<optimizer>-<time>)'),
  save: z.boolean().default(true).describe('Keep checkpoints, events and a report in the run folder'),
  resume: path.optional().describe('Run folder to go on from, with the same options unless flags say otherwise'),
  test: z.boolean().default(true).describe('Evaluate the test split after each epoch'),
});

/** The command's options, kept in the run folder so that `--resume` and `--config` can start from them. */
const OPTIONS_FILE = 'options.json';

type TrainOptions = z.output<typeof schema>;

export const trainCommand = defineCommand({
  name: 'train',
  summary: 'train a model with SGD, Adam, AdamW, SAM or ASAM',
  details: `Ctrl-C finishes the step, writes a checkpoint and ends with code 130; a second Ctrl-C ends at once.

Examples:
  flatmin train --optimizer asam --epochs 20
  flatmin train --data cifar10 --data-dir cifar --optimizer sam --rho 0.1 --epochs 200 --run-dir runs/sam
  flatmin train --resume runs/sam`,
  schema,
  configOf: ({ resume }) =>
    typeof resume === 'string' && existsSync(join(resume, OPTIONS_FILE)) ? join(resume, OPTIONS_FILE) : undefined,
  run: train,
});

async function train(options: TrainOptions, context: Context): Promise<void> {
  const { output } = context;
  // Wrong options are told before anything is loaded.
  const [optimizerFor, settings] = [planOptimizer(options), trainerOptions(options)];
  const [images, test] = await Promise.all([
    openSplit(options, 'train'),
    options.test ? openSplit(options, 'test') : undefined,
  ]);
  const { train: kept, validation } = splitOff(images, options);
  const name = options.model ?? defaultModel(options.data);
  using model = models.create(name, { ...zooOptionsFor(images), dtype: options.dtype, seed: options.seed });
  const runDir = options.save ? (options.runDir ?? options.resume ?? defaultRunDir(name, options)) : undefined;
  const trainer = new Trainer({
    model,
    optimizer: optimizerFor(model),
    train: kept,
    ...(validation !== undefined && { validation }),
    ...(test !== undefined && { test }),
    ...settings,
    ...(runDir !== undefined && { runDir }),
    // Logs are read by people; a terminal is redrawn more often than a log needs a line.
    stepEventMs: output.live ? 100 : 1000,
  });
  output.text(
    `${name} (${model.parameterCount.toLocaleString('en')} parameters) on ${options.data}, ${kept.length} images, ${options.optimizer}`,
  );
  if (runDir !== undefined) await saveOptions(runDir, options);
  const run = options.resume === undefined ? trainer.fit() : trainer.resume(options.resume);
  const history = await follow(run, output, { epochs: options.epochs, events: true });
  if (runDir !== undefined) await writeReport(runDir, history, name, options);
  finish(history, runDir, context);
}

/** Holds out the validation images before labels get noise: the best checkpoint is chosen on right labels. */
function splitOff(
  images: Dataset,
  { validation, labelNoise, seed }: TrainOptions,
): { train: Dataset; validation: Dataset | undefined } {
  const [train = images, heldOut] = validation > 0 ? images.split([1 - validation, validation], { seed }) : [images];
  return { train: labelNoise > 0 ? train.withLabelNoise(labelNoise, { seed }) : train, validation: heldOut };
}

async function saveOptions(runDir: string, options: TrainOptions): Promise<void> {
  const { runDir: _, resume: __, ...kept } = options;
  await mkdir(runDir, { recursive: true });
  await writeFile(join(runDir, OPTIONS_FILE), `${JSON.stringify(kept, undefined, 2)}\n`);
}

/** A new folder a run, named so that a list of them is sorted by data, model and time. */
function defaultRunDir(model: string, { data, optimizer }: TrainOptions): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  return join('runs', `${data}-${model}-${optimizer}-${time}`);
}

async function writeReport(
  runDir: string,
  history: FinishedHistory,
  model: string,
  options: TrainOptions,
): Promise<void> {
  const run = {
    group: options.optimizer.toUpperCase(),
    seed: options.seed,
    epochs: history.epochs,
    seconds: history.result.seconds,
  };
  // Loaded only when needed: the plotting library would double the start of every command.
  const { renderReport } = await import('../../report/index.js');
  const page = renderReport([run], {
    title: `${model} on ${options.data}, ${options.optimizer.toUpperCase()}`,
    options: { model, ...options },
    environment: { ...describeEnvironment() },
  });
  await writeFile(join(runDir, 'report.html'), page);
}

function finish({ reason, result }: FinishedHistory, runDir: string | undefined, { output, exit }: Context): void {
  const held = result.test ?? result.validation;
  if (held !== null)
    output.text(
      `${result.test === null ? 'validation' : 'test'} accuracy ${(100 * held.accuracy).toFixed(2)} %, loss ${held.loss.toFixed(4)}`,
    );
  if (runDir !== undefined) output.text(`run folder: ${runDir}`);
  if (reason !== 'finished') exit(EXIT.interrupted);
}
