// Median and spread of repeated measurements.

/** What is told of a series of times or rates. */
export interface Series {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly n: number;
}

/** The middle value; the mean of the two middle ones for an even count. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  if (Number.isInteger(middle)) return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
  return sorted[Math.floor(middle)] ?? Number.NaN;
}

/** Rounds to six significant digits: more would be noise. */
export const rounded = (value: number) => Number(value.toPrecision(6));

/** Median, smallest, largest and count. */
export function series(values: readonly number[]): Series {
  return {
    median: rounded(median(values)),
    min: rounded(Math.min(...values)),
    max: rounded(Math.max(...values)),
    n: values.length,
  };
}
