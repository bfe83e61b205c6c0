// `flatmin demo`: SGD, SAM and ASAM learn handwritten digits of which 40 % carry a wrong label, and are tested on clean ones.
// A flat minimum does not memorise the wrong labels, which shows as ten and more points of test accuracy.
import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { fraction, nonNegative, path, positiveInteger, wholeNumber } from '../../options/fields.js';
import { defineCommand } from '../command.js';
import { planComparison } from '../compare/plan.js';
import { comparisonDocument, comparisonPage, showTable } from '../compare/result.js';
import { trainRuns } from '../compare/runs.js';
import { EXIT } from '../failure.js';
import { openImages } from '../training.js';

const schema = z.strictObject({
  epochs: positiveInteger.default(30).describe('Passes over the training images'),
  seeds: z.array(wholeNumber).min(1).default([1, 2, 3]).describe('Seeds; each gives one run of every optimizer'),
  noise: fraction.default(0.4).describe('Share of the training labels replaced by another class'),
  rhoSam: nonNegative.default(0.5).describe('Radius of SAM'),
  rhoAsam: nonNegative.default(4).describe('Radius of ASAM; its unit is another than that of SAM'),
  jobs: positiveInteger.optional().describe('Runs trained at once, one thread each (default: one per core)'),
  out: path.default('report.html').describe('File of the report'),
});

export const demoCommand = defineCommand({
  name: 'demo',
  summary: 'see SGD, SAM and ASAM train on noisy labels, with a report at the end',
  schema,
  async run({ epochs, seeds, noise, rhoSam, rhoAsam, jobs = availableParallelism(), out }, { output, exit }) {
    const shared = { data: 'digits', epochs, labelNoise: noise, threads: 1, base: 'sgd', warmupEpochs: 0 } as const;
    const plan = planComparison({
      optimizers: ['sgd', { optimizer: 'sam', rho: rhoSam }, { optimizer: 'asam', rho: rhoAsam }],
      ...{ sweep: [], seeds, sgdEpochsFactor: 1, shared, out: undefined },
    });
    const images = await openImages({ data: 'digits', test: true });
    const wrong = `${Math.round(noise * 100)} %`;
    output.text(
      `Digits: ${images.train.length} training images, ${wrong} of their labels wrong; ${images.test?.length} test images with right labels.`,
    );
    const manner = { jobs: Math.min(jobs, plan.runs.length), tensorboard: false };
    const outcome = await trainRuns(plan.runs, async () => images, manner, output);
    if (outcome.stopped) {
      exit(EXIT.interrupted);
      return;
    }
    const page = await comparisonPage(plan, outcome, {
      title: 'Training on noisy labels: SGD, SAM and ASAM',
      summary: `Handwritten digits, ${wrong} of the training labels replaced by another class. SGD ends by memorising the wrong labels; SAM and ASAM, which look for flat minima, do less of it and so do better on clean test images.`,
      shared: {
        data: `digits, ${images.train.length} training and ${images.test?.length} clean test images`,
        model: 'demo (four 3x3 convolutions with batch norm)',
        ...{ 'label noise': noise, epochs, 'batch size': 128, schedule: 'cosine', seeds, 'runs at once': jobs },
        'training time': `${outcome.seconds.toFixed(1)} s`,
      },
      notes: [
        'Training accuracy is on the noisy labels, so a value near 100 % means that the wrong labels were learnt by heart.',
      ],
    });
    await writeFile(out, page);
    showTable(plan, outcome, output);
    output.document({ ...comparisonDocument(plan, outcome, { ...shared, jobs }), report: out });
    output.text(`training took ${outcome.seconds.toFixed(1)} s; report: ${out}`);
  },
});
