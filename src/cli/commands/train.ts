// `flatmin train`: trains a model of the zoo on a named data set and keeps checkpoints and a report in a run folder.
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { callbacks, type FinishedHistory, type LoadReport } from '../../index.js';
import { path } from '../../options/fields.js';
import { trainerSchema } from '../../options/index.js';
import { type Context, defineCommand } from '../command.js';
import { dashboardFields, openDashboard } from '../dashboard/open.js';
import { EXIT, UsageError } from '../failure.js';
import { runFields } from '../fields.js';
import { follow } from '../follow.js';
import { optimizerEntry } from '../optimizers.js';
import type { Output } from '../output.js';
import { keptWeights, modelName, openImages, optionsFile, planTraining, saveOptions } from '../training.js';

const schema = z.strictObject({
  ...runFields,
  runDir: path.optional().describe('Run folder (default: runs/<data>-<model>-<optimizer>-<time>)'),
  save: z.boolean().default(true).describe('Keep checkpoints, events and a report in the run folder'),
  keepWeights: z
    .boolean()
    .default(false)
    .describe("Keep every epoch's weights in the run folder, for flatmin landscape --trajectory"),
  tensorboard: trainerSchema.shape.tensorboard,
  dashboard: z.boolean().default(false).describe('Serve a page with live curves and a stop button'),
  ...dashboardFields,
  resume: path.optional().describe('Run folder to go on from, with the same options unless flags say otherwise'),
});

type TrainOptions = z.output<typeof schema>;

export const trainCommand = defineCommand({
  name: 'train',
  summary: 'train a model with SGD, Adam, AdamW, SAM, ASAM and others',
  details: `Ctrl-C finishes the step, writes a checkpoint and ends with code 130; a second Ctrl-C ends at once.

Examples:
  flatmin train --optimizer asam --epochs 20
  flatmin train --data cifar10 --data-dir cifar --optimizer sam --rho 0.1 --epochs 200 --run-dir runs/sam
  flatmin train --optimizer asam --epochs 50 --dashboard --open
  flatmin train --resume runs/sam
  flatmin train --data cifar100 --data-dir cifar100 --model resnet20 --weights resnet20.pth --freeze '*.running_*' --optimizer sam`,
  schema,
  configOf: ({ resume }) =>
    typeof resume === 'string' && existsSync(optionsFile(resume)) ? optionsFile(resume) : undefined,
  run: train,
});

async function train(options: TrainOptions, context: Context): Promise<void> {
  const { output } = context;
  if (options.dashboard && !options.save) throw new UsageError('--dashboard needs a run folder; leave out --no-save');
  const name = modelName(options);
  // A checkpoint holds all weights: those that the run once started from may be gone.
  const makeTraining = planTraining(options.resume === undefined ? options : { ...options, weights: undefined });
  const images = await openImages(options);
  const runDir = options.save ? (options.runDir ?? options.resume ?? defaultRunDir(name, options)) : undefined;
  // Logs are read by people; a terminal is redrawn more often than a log needs a line.
  const keeping = options.keepWeights && runDir !== undefined;
  using training = await makeTraining(images, {
    runDir,
    tensorboard: options.tensorboard,
    stepEventMs: output.live ? 100 : 1000,
    callbacks: keeping ? [new callbacks.ModelCheckpoint({ path: keptWeights(runDir, '{epoch}') })] : [],
  });
  const { model, trainer, loaded } = training;
  tellLoaded(loaded, output);
  output.text(
    `${name} (${model.parameterCount.toLocaleString('en')} parameters) on ${options.data}, ${training.images} images, ${options.optimizer}`,
  );
  const { runDir: _, resume: __, dashboard, port, open, ...kept } = options;
  if (runDir !== undefined) await saveOptions(runDir, kept);
  const title = `${optimizerEntry(options.optimizer).title}: ${name} on ${options.data}`;
  const page =
    dashboard && runDir !== undefined ? await openDashboard({ runDir, title, port, open }, output) : undefined;
  const run = options.resume === undefined ? trainer.fit() : trainer.resume(options.resume);
  const history = await follow(run, output, { epochs: options.epochs, events: true }).finally(() => page?.close());
  if (runDir !== undefined) await writeReport(runDir);
  finish(history, runDir, context);
}

/** Says what of the weights to start from did not fit. */
function tellLoaded(loaded: LoadReport | undefined, output: Output): void {
  if (loaded === undefined) return;
  const { missing, unexpected, mismatched } = loaded;
  const tell = (names: readonly string[], what: string) => {
    if (names.length > 0) output.note(`weights: ${names.join(', ')} ${what}`);
  };
  tell(
    mismatched.map(({ name, found, expected }) => `${name} [${found}] for [${expected}]`),
    'differ in shape and start anew',
  );
  tell(missing, 'are missing and start anew');
  tell(unexpected, 'belong to nothing in the model and are left out');
}

/** A new folder a run, named so that a list of them is sorted by data, model and time. */
function defaultRunDir(model: string, { data, optimizer }: TrainOptions): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  return join('runs', `${data}-${model}-${optimizer}-${time}`);
}

async function writeReport(runDir: string): Promise<void> {
  // Loaded only when needed: the plotting library would double the start of every command.
  const [{ renderReport }, { readStoredRun, reportOn }] = await Promise.all([
    import('../../report/index.js'),
    import('../../report/runs.js'),
  ]);
  const { runs, meta } = reportOn([readStoredRun(runDir)]);
  await writeFile(join(runDir, 'report.html'), renderReport(runs, meta));
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
