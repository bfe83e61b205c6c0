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

/** Summary of the last epochs of the runs of one group. */
export interface GroupSummary {
  readonly group: string;
  readonly seeds: readonly number[];
  /** Name of the split that `heldOut` is about. */
  readonly split: 'test' | 'validation' | undefined;
  /** Accuracy of each run on the held-out split after its last epoch. */
  readonly heldOut: readonly number[];
  readonly train: readonly number[];
  readonly seconds: readonly number[];
}

function heldOutOf(epoch: ReportEpoch): { split: 'test' | 'validation'; accuracy: number } | undefined {
  if (epoch.test !== undefined) return { split: 'test', accuracy: epoch.test.accuracy };
  return epoch.validation === undefined ? undefined : { split: 'validation', accuracy: epoch.validation.accuracy };
}

/** One summary a group, in the order in which groups first appear. */
export function summarize(runs: readonly ReportRun[]): GroupSummary[] {
  const groups = [...new Set(runs.map((run) => run.group))];
  return groups.map((group) => {
    const members = runs.filter((run) => run.group === group);
    const last = members.flatMap((run) => run.epochs.at(-1) ?? []);
    const heldOut = last.flatMap((epoch) => heldOutOf(epoch) ?? []);
    return {
      group,
      seeds: members.map((run) => run.seed),
      split: heldOut[0]?.split,
      heldOut: heldOut.map(({ accuracy }) => accuracy),
      train: last.map((epoch) => epoch.train.accuracy),
      seconds: members.map((run) => run.seconds),
    };
  });
}

/** `91.2 ± 0.4` in percent; the deviation is left out for a single value, and no value is a dash. */
export function percentWithDeviation(fractions: readonly number[]): string {
  if (fractions.length === 0) return '-';
  const spread = deviation(fractions);
  return `${(100 * mean(fractions)).toFixed(1)}${spread === undefined ? '' : ` ± ${(100 * spread).toFixed(1)}`}`;
}
