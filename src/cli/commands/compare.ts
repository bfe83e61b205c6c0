// `flatmin compare`: several optimizers, the same images, budget and seeds; a table, compare.json and a page at the end.
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { path, positiveInteger, wholeNumber } from '../../options/fields.js';
import { trainerSchema } from '../../options/index.js';
import { type Context, defineCommand } from '../command.js';
import { type ComparisonPlan, planComparison } from '../compare/plan.js';
import { comparisonDocument, comparisonPage, showTable } from '../compare/result.js';
import { trainRuns } from '../compare/runs.js';
import { EXIT } from '../failure.js';
import { runSchema } from '../fields.js';
import { baseFields, isOptimizerOption } from '../optimizers.js';
import { modelName, openImages } from '../training.js';

const value = z.union([z.number(), z.string(), z.boolean()]);

// Every option of a run but those of the optimizers, which are said for each of them.
const { shape } = runSchema.omit({ seed: true, test: true, optimizer: true });
const sharedFields = Object.fromEntries(
  Object.entries(shape).filter(([key]) => !isOptimizerOption(key)),
) as typeof shape;

const schema = z.strictObject({
  optimizers: z
    .array(z.union([z.string(), z.record(z.string(), z.unknown())]))
    .min(1)
    .default(['sgd', 'sam', 'asam'])
    .describe('What is compared; options follow a colon, as in sam,asam:rho=1,eta=0.01'),
  sweep: z
    .union([z.array(z.string()), z.record(z.string(), z.array(value))])
    .default([])
    .describe('Values of an option that are all tried, as in rho=0.05,0.1 or asam:rho=0.5,1; several make a grid'),
  seeds: positiveInteger.default(3).describe('Runs of each optimizer, with one seed after the other'),
  firstSeed: wholeNumber.default(1).describe('First of the seeds'),
  sgdEpochsFactor: z
    .number()
    .positive()
    .default(1)
    .describe('Epochs of sgd, adam and adamw as a multiple of the others; 2 makes the computing equal'),
  ...sharedFields,
  ...baseFields,
  jobs: positiveInteger.default(1).describe('Runs trained at once'),
  threads: positiveInteger
    .max(1024)
    .optional()
    .describe('Threads of each run (default: the cores divided by the jobs)'),
  tensorboard: trainerSchema.shape.tensorboard,
  out: path.optional().describe('Folder of the runs and results (default: runs/compare-<data>-<model>)'),
});

type CompareOptions = z.output<typeof schema>;

export const compareCommand = defineCommand({
  name: 'compare',
  summary: 'train several optimizers on the same data and budget, and compare them',
  details: `Each run has a folder below --out, so the same command goes on after Ctrl-C (code 130) or a crash: what is finished is not
run again. More optimizers or seeds may be added later. A run that fails does not stop the others; the exit code is 1 then.

Examples:
  flatmin compare --label-noise 0.4 --epochs 30 --optimizers sgd,sam:rho=0.5,asam:rho=4
  flatmin compare --data cifar10 --data-dir cifar --epochs 100 --sgd-epochs-factor 2 --out runs/cifar
  flatmin compare --optimizers sgd,sam,asam --sweep sam:rho=0.05,0.1,0.2 --sweep asam:rho=0.5,1,2 --out runs/rho`,
  schema,
  run: compare,
});

async function compare(options: CompareOptions, { output, exit }: Context): Promise<void> {
  const { optimizers, sweep, seeds, firstSeed, sgdEpochsFactor, jobs, tensorboard, out: folder, ...shared } = options;
  const out = folder ?? join('runs', `compare-${shared.data}-${modelName(shared)}`);
  const threads = shared.threads ?? Math.max(1, Math.floor(availableParallelism() / jobs));
  const plan = planComparison({
    ...{ optimizers, sweep, sgdEpochsFactor, out },
    seeds: Array.from({ length: seeds }, (_, index) => firstSeed + index),
    shared: { ...shared, threads },
  });
  output.text(`${modelName(shared)} on ${shared.data}: ${plan.settings.map(({ name }) => name).join(', ')}`);
  const outcome = await trainRuns(
    plan.runs,
    () => openImages({ ...shared, test: true }),
    { jobs, tensorboard },
    output,
  );
  if (outcome.runs.length > 0) {
    const described = { ...shared, model: modelName(shared), threads, jobs };
    const document = comparisonDocument(plan, outcome, described);
    await mkdir(out, { recursive: true });
    await writeFile(join(out, 'compare.json'), `${JSON.stringify(document, undefined, 2)}\n`);
    await writeFile(join(out, 'report.html'), await comparisonPage(plan, outcome, heading(plan, described)));
    showTable(plan, outcome, output);
    output.document(document);
    output.text(`${join(out, 'report.html')}, ${join(out, 'compare.json')}`);
  }
  if (outcome.stopped) {
    output.note(`${outcome.runs.length} of ${plan.runs.length} runs are finished; the same command goes on`);
    exit(EXIT.interrupted);
  } else if (outcome.failures.length > 0) exit(EXIT.failure);
}

function heading({ settings }: ComparisonPlan, shared: { model: string; data: string; labelNoise: number }) {
  const { model, data, labelNoise } = shared;
  const names = [...new Set(settings.map(({ family }) => family))];
  const noise = labelNoise > 0 ? `, ${Math.round(100 * labelNoise)} % of the training labels wrong` : '';
  return {
    shared,
    title: `${names.join(', ')}: ${model} on ${data}${noise}`,
    notes:
      labelNoise > 0
        ? [
            'Training accuracy is on the noisy labels: a value near 100 % means that the wrong ones were learnt by heart.',
          ]
        : [],
  };
}
