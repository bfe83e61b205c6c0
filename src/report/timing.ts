// The columns of the timing table: what a run took, and where the time went.
import { median, spread, spreadText } from './statistics.js';
import type { ReportEpoch, ReportRun } from './types.js';

interface TimingColumn {
  readonly title: string;
  readonly text: (runs: readonly ReportRun[]) => string;
}

/** A column over the values that each run has, a median over its epochs unless `of` says otherwise. */
const column = (
  title: string,
  digits: number,
  value: (epoch: ReportEpoch) => number | null | undefined,
  of = median,
) => ({
  title,
  has: (runs: readonly ReportRun[]) =>
    runs.some(({ epochs }) => epochs.some((epoch) => typeof value(epoch) === 'number')),
  text: (runs: readonly ReportRun[]) =>
    spreadText(
      spread(
        runs.flatMap(({ epochs }) => {
          const values = epochs.flatMap((epoch) => value(epoch) ?? []);
          return values.length === 0 ? [] : [of(values)];
        }),
      ),
      digits,
    ),
});

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const GB = 1e9;

const COLUMNS = [
  column('run, s', 1, ({ seconds }) => seconds, sum),
  column('s/epoch', 2, ({ seconds }) => seconds),
  column('img/s', 0, ({ imagesPerSecond }) => imagesPerSecond),
  column('waiting for data, %', 1, ({ dataSeconds, seconds }) =>
    dataSeconds === undefined ? undefined : (100 * dataSeconds) / seconds,
  ),
  column(
    'memory, GB',
    2,
    ({ memoryBytes }) => (typeof memoryBytes === 'number' ? memoryBytes / GB : undefined),
    (values) => Math.max(...values),
  ),
  column('skipped steps', 0, ({ skippedSteps }) => skippedSteps, sum),
];

/** The columns that there are values for. */
export const timingColumns = (runs: readonly ReportRun[]): readonly TimingColumn[] =>
  COLUMNS.filter(({ has }) => has(runs));
