// What a report is drawn from: runs with their epochs, and words about how they were made.

import type { EpochEvent } from '../events.js';

/** One epoch of one run, as training tells it. */
export type ReportEpoch = Pick<
  EpochEvent,
  'epoch' | 'train' | 'validation' | 'test' | 'generalizationGap' | 'sharpness' | 'lr'
>;

/** One training run. Runs of the same `group` (an optimizer with its settings) share a colour and a mean. */
export interface ReportRun {
  readonly group: string;
  readonly seed: number;
  readonly epochs: readonly ReportEpoch[];
  /** Wall time of the training in seconds. */
  readonly seconds: number;
}

/** Everything in a report beside the runs. */
export interface ReportMeta {
  readonly title: string;
  /** One or two sentences under the title. */
  readonly summary?: string;
  /** The settings that all runs share, shown as a list. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Versions and hardware. */
  readonly environment: Readonly<Record<string, unknown>>;
  /** Remarks that a reader of the figures needs. */
  readonly notes?: readonly string[];
}
