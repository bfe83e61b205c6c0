// `flatmin demo`: SGD, SAM and ASAM learn handwritten digits of which 40 % carry a wrong label, and are tested on clean ones.
// A flat minimum does not memorise the wrong labels, which shows as ten and more points of test accuracy.

import { writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { fraction, nonNegative, path, positiveInteger, wholeNumber } from '../../options/fields.js';
import { mean, percentWithDeviation, summarize } from '../../report/statistics.js';
import { defineCommand } from '../command.js';
import { openSplit } from '../data.js';
import { type DemoRun, trainAll } from '../demo-runs.js';
import { describeEnvironment } from '../environment.js';
import { EXIT } from '../failure.js';
import type { Output } from '../output.js';
import { textTable } from '../table.js';

const schema = z.strictObject({
  epochs: positiveInteger.default(30).describe('Passes over the training images'),
  seeds: z.array(wholeNumber).min(1).default([1, 2, 3]).describe('Seeds; each gives one run of every optimizer'),
  noise: fraction.default(0.4).describe('Share of the training labels replaced by another class'),
  rhoSam: nonNegative.default(0.5).describe('Radius of SAM'),
  rhoAsam: nonNegative.default(4).describe('Radius of ASAM; its unit is another than that of SAM'),
  jobs: positiveInteger.optional().describe('Runs trained at once, one thread each (default: one per core)'),
  out: path.default('report.html').describe('File of the report'),
});

type DemoOptions = z.output<typeof schema>;

export const demoCommand = defineCommand({
  name: 'demo',
  summary: 'see SGD, SAM and ASAM train on noisy labels, with a report at the end',
  schema,
  async run(options, { output, exit }) {
    const [train, test] = await Promise.all([
      openSplit({ data: 'digits' }, 'train'),
      openSplit({ data: 'digits' }, 'test'),
    ]);
    output.text(
      `Digits: ${train.length} training images, ${Math.round(options.noise * 100)} % of their labels wrong; ${test.length} test images with right labels.`,
    );
    const jobs = Math.min(options.jobs ?? availableParallelism(), 3 * options.seeds.length);
    output.text(
      `SGD, SAM (rho ${options.rhoSam}) and ASAM (rho ${options.rhoAsam}), seeds ${options.seeds.join(', ')}, ${options.epochs} epochs, ${jobs} at once.\n`,
    );
    const { runs, seconds, stopped } = await trainAll({ ...options, jobs, train, test }, output);
    if (stopped) {
      exit(EXIT.interrupted);
      return;
    }
    await writeFile(options.out, await page(runs, seconds, options, jobs));
    showResult(runs, seconds, options, output);
  },
});

function showResult(runs: readonly DemoRun[], seconds: number, options: DemoOptions, output: Output): void {
  const summaries = summarize(runs);
  output.document({
    seconds,
    report: options.out,
    summary: summaries.map(({ group, seeds, heldOut, train, seconds: times }) => ({
      optimizer: group,
      seeds,
      testAccuracy: mean(heldOut),
      testAccuracies: heldOut,
      trainAccuracy: mean(train),
      secondsPerRun: mean(times),
    })),
  });
  const rows = summaries.map(({ group, heldOut, train, seconds: times }) => [
    group,
    percentWithDeviation(heldOut),
    percentWithDeviation(train),
    mean(times).toFixed(1),
  ]);
  output.text(
    `\n${textTable(['optimizer', 'test accuracy, %', 'accuracy on noisy labels, %', 'seconds a run'], rows)}`,
  );
  output.text(
    `\nmean ± standard deviation over n = ${options.seeds.length} seeds (${options.seeds.join(', ')}); training took ${seconds.toFixed(1)} s`,
  );
  output.text(`report: ${options.out}`);
}

async function page(runs: readonly DemoRun[], seconds: number, options: DemoOptions, jobs: number): Promise<string> {
  // Loaded only when needed: the plotting library would double the start of every command.
  const { renderReport } = await import('../../report/index.js');
  return renderReport(runs, {
    title: 'Training on noisy labels: SGD, SAM and ASAM',
    summary: `Handwritten digits, ${Math.round(options.noise * 100)} % of the training labels replaced by another class. SGD ends by memorising the wrong labels; SAM and ASAM, which look for flat minima, do less of it and so do better on clean test images.`,
    options: {
      data: 'digits, 1,297 training and 500 clean test images',
      model: 'demo (four 3x3 convolutions with batch norm)',
      'label noise': options.noise,
      epochs: options.epochs,
      'batch size': 128,
      'learning rate': '0.1, cosine',
      momentum: 0.9,
      'weight decay': 5e-4,
      'rho of SAM': options.rhoSam,
      'rho of ASAM': options.rhoAsam,
      seeds: options.seeds,
      'runs at once': jobs,
      'training time': `${seconds.toFixed(1)} s`,
    },
    environment: { ...describeEnvironment(), threads: '1 a run' },
    notes: [
      'Training accuracy is on the noisy labels, so a value near 100 % means that the wrong labels were learnt by heart.',
    ],
  });
}
