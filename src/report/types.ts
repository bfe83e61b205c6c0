// What a report is drawn from: runs with their epochs, and words about how they were made.

import type { EpochEvent } from '../events.js';
import type { Spread } from './statistics.js';

/** One epoch of one run, as training tells it. */
export type ReportEpoch = Pick<
  EpochEvent,
  'epoch' | 'train' | 'validation' | 'test' | 'generalizationGap' | 'sharpness' | 'lr' | 'seconds' | 'imagesPerSecond'
> &
  Partial<Pick<EpochEvent, 'rho' | 'dataSeconds' | 'memoryBytes' | 'skippedSteps'>>;

/** One training run. Runs of the same `group` (an optimizer with its settings) share a colour and a mean. */
export interface ReportRun {
  readonly group: string;
  readonly seed: number;
  readonly epochs: readonly ReportEpoch[];
  /** Where it came from and how it ended. */
  readonly origin?: RunOrigin;
}

/** A run's folder, and what it tells about the run as a whole. */
export interface RunOrigin {
  readonly path: string;
  /** How it ended, or that it has not. */
  readonly state: string;
  /** When it was started, as ISO 8601; undefined for runs that did not note it. */
  readonly date: string | undefined;
}

/** Accuracy over the values of one swept option. */
export interface ReportSweep {
  readonly option: string;
  readonly lines: readonly SweepLine[];
}

/** One optimizer, with all its other options settled. */
export interface SweepLine {
  readonly name: string;
  readonly points: readonly { readonly value: number | string | boolean; readonly accuracy: Spread }[];
  /** Result of an optimizer that was not swept, beside which the others are seen. */
  readonly level?: Spread;
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
  /** Group that training times are relative to. */
  readonly reference?: string;
  readonly sweeps?: readonly ReportSweep[];
  /** Groups whose curves are drawn, where all of them would be too many. */
  readonly drawn?: readonly string[];
  /** Remarks that a reader of the figures needs. */
  readonly notes?: readonly string[];
}
