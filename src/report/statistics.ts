// The few statistics that tables need: mean, sample deviation, and the summary of runs that share their settings.
import type { ReportEpoch, ReportRun } from './types.js';

/** Arithmetic mean; NaN for no values. */
export const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Sample standard deviation (n - 1); undefined for fewer than two values. */
export function deviation(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

/** The middle value; NaN for no values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return mean(sorted.slice(Math.ceil(half) - 1, Math.floor(half) + 1));
}

/** One value for each run of a group. */
export interface Spread {
  readonly n: number;
  readonly mean: number;
  /** Sample standard deviation; undefined for fewer than two values. */
  readonly sd: number | undefined;
  readonly values: readonly number[];
}

/** Mean and deviation of values. */
export const spread = (values: readonly number[]): Spread => ({
  ...{ n: values.length, mean: mean(values), sd: deviation(values), values },
});

/** Summary of the runs of one group; of each run, the figures after its last epoch. */
export interface GroupSummary {
  readonly group: string;
  readonly seeds: readonly number[];
  /** Epochs of each run. */
  readonly epochs: number;
  /** Name of the split that accuracy and loss are about. */
  readonly split: 'test' | 'validation' | undefined;
  /** Accuracy on the held-out split. */
  readonly accuracy: Spread;
  /** Loss on the held-out split. */
  readonly loss: Spread;
  /** Loss on the held-out split minus loss on the training images. */
  readonly gap: Spread;
  /** Accuracy on the training images, with the labels that were trained on. */
  readonly trainAccuracy: Spread;
  /** Median over a run's epochs, evaluation included; one that was interrupted and resumed does not distort it. */
  readonly secondsPerEpoch: Spread;
  /** Median over a run's epochs, evaluation left out. */
  readonly imagesPerSecond: Spread;
  /** Training time of a whole run: its epochs times their median. */
  readonly seconds: Spread;
  /** Mean training time of a run divided by the reference group's; undefined without one. */
  readonly relativeTime: number | undefined;
}

function heldOutOf(epoch: ReportEpoch) {
  if (epoch.test !== undefined) return { split: 'test' as const, ...epoch.test };
  return epoch.validation === undefined ? undefined : { split: 'validation' as const, ...epoch.validation };
}

const ofEpochs = (runs: readonly ReportRun[], value: (epoch: ReportEpoch) => number) =>
  runs.map((run) => median(run.epochs.map(value)));

/** One summary a group, in the order in which groups first appear. `reference` is the group that times are relative to. */
export function summarize(runs: readonly ReportRun[], reference?: string): GroupSummary[] {
  const groups = [...new Set(runs.map((run) => run.group))];
  const summaries = groups.map((group) =>
    summarizeGroup(
      group,
      runs.filter((run) => run.group === group),
    ),
  );
  const time = summaries.find(({ group }) => group === reference)?.seconds.mean;
  return summaries.map((summary) => ({
    ...summary,
    relativeTime: time === undefined ? undefined : summary.seconds.mean / time,
  }));
}

function summarizeGroup(group: string, runs: readonly ReportRun[]): GroupSummary {
  const last = runs.flatMap((run) => run.epochs.at(-1) ?? []);
  const heldOut = last.flatMap((epoch) => heldOutOf(epoch) ?? []);
  const secondsPerEpoch = ofEpochs(runs, ({ seconds }) => seconds);
  return {
    group,
    seeds: runs.map((run) => run.seed),
    epochs: Math.max(...runs.map((run) => run.epochs.length)),
    split: heldOut[0]?.split,
    accuracy: spread(heldOut.map(({ accuracy }) => accuracy)),
    loss: spread(heldOut.map(({ loss }) => loss)),
    gap: spread(last.flatMap(({ generalizationGap }) => generalizationGap ?? [])),
    trainAccuracy: spread(last.map((epoch) => epoch.train.accuracy)),
    secondsPerEpoch: spread(secondsPerEpoch),
    imagesPerSecond: spread(ofEpochs(runs, ({ imagesPerSecond }) => imagesPerSecond)),
    seconds: spread(runs.map((run, index) => run.epochs.length * (secondsPerEpoch[index] ?? Number.NaN))),
    relativeTime: undefined,
  };
}

/** `91.2 ± 0.4`; the deviation is left out for a single value, and no value is a dash. */
export function spreadText({ n, mean, sd }: Spread, digits: number, factor = 1): string {
  if (n === 0) return '-';
  return `${(factor * mean).toFixed(digits)}${sd === undefined ? '' : ` ± ${(factor * sd).toFixed(digits)}`}`;
}

/** A column of the table that compares groups. */
export interface Column {
  readonly title: string;
  readonly text: (summary: GroupSummary) => string;
}

/** The columns of the table after the group's name, on a terminal and on a page. */
export function summaryColumns(summaries: readonly GroupSummary[], reference?: string): Column[] {
  const split = summaries.find((summary) => summary.split !== undefined)?.split;
  const heldOut: Column[] = [
    { title: `${split} accuracy, %`, text: ({ accuracy }) => spreadText(accuracy, 2, 100) },
    { title: `${split} loss`, text: ({ loss }) => spreadText(loss, 3) },
    { title: 'generalization gap', text: ({ gap }) => spreadText(gap, 3) },
  ];
  const relative: Column = {
    title: `time / ${reference}`,
    text: ({ relativeTime }) => relativeTime?.toFixed(2) ?? '-',
  };
  return [
    ...(split === undefined ? [] : heldOut),
    { title: 'training accuracy, %', text: ({ trainAccuracy }) => spreadText(trainAccuracy, 2, 100) },
    { title: 'epochs', text: ({ epochs }) => String(epochs) },
    { title: 's/epoch', text: ({ secondsPerEpoch }) => spreadText(secondsPerEpoch, secondsPerEpoch.mean < 10 ? 2 : 1) },
    { title: 'img/s', text: ({ imagesPerSecond }) => spreadText(imagesPerSecond, 0) },
    ...(summaries.some(({ relativeTime }) => relativeTime !== undefined) ? [relative] : []),
    { title: 'n', text: ({ seeds }) => String(seeds.length) },
  ];
}
