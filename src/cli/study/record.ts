// What is kept of a net: its place in the grid, how it was trained, and its measures. A net with a record is not made again.
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../write.js';
import { UsageError } from '../failure.js';
import { type Point, type StudyOptions, sharedSettings } from './plan.js';

interface Scores {
  readonly loss: number;
  readonly accuracy: number;
}

/** A net that was trained and measured. */
export interface NetRecord {
  readonly point: Point;
  readonly seed: number;
  /** Whether it came to the training loss that all nets are compared at. */
  readonly converged: boolean;
  readonly epochs: number;
  readonly steps: number;
  /** Training and measuring. */
  readonly seconds: number;
  /** In evaluation mode, over the whole set. */
  readonly train: Scores;
  readonly test: Scores;
  /** Test loss minus training loss; test error minus training error. */
  readonly gap: { readonly loss: number; readonly error: number };
  readonly measures: Readonly<Record<Measure, number>>;
  /** What ended its training, if it failed. */
  readonly failure?: string;
}

/** What is held against the gap. */
export const MEASURES = ['sharpness', 'adaptiveSharpness', 'weightNorm'] as const;
export type Measure = (typeof MEASURES)[number];

const recordFile = (folder: string) => join(folder, 'net.json');

/** Keeps a record, complete or not at all. */
export async function writeRecord(folder: string, record: NetRecord, options: StudyOptions): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeWhole(
    recordFile(folder),
    `${JSON.stringify({ settings: sharedSettings(options), ...record }, undefined, 2)}\n`,
  );
}

/** The record of a net that was finished before. @throws {@link UsageError} when it belongs to a study of other settings. */
export function readRecord(folder: string, options: StudyOptions): NetRecord | undefined {
  const file = recordFile(folder);
  if (!existsSync(file)) return undefined;
  const { settings, ...record } = JSON.parse(readFileSync(file, 'utf8')) as NetRecord & { settings: object };
  const before = Object.entries(settings).find(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(sharedSettings(options)[key]),
  );
  if (before === undefined) return record;
  throw new UsageError(
    `${folder} holds a net of a study with another '${before[0]}': it was ${JSON.stringify(before[1])} and is ${JSON.stringify(sharedSettings(options)[before[0]])}; choose another --out, or the same options to go on`,
  );
}

/** The record of a net whose training failed, with what can be known of it. */
export const failedRecord = (point: Point, seed: number, failure: string): NetRecord => ({
  ...{ point, seed, converged: false, epochs: 0, steps: 0, seconds: 0, failure },
  train: { loss: Number.NaN, accuracy: Number.NaN },
  test: { loss: Number.NaN, accuracy: Number.NaN },
  gap: { loss: Number.NaN, error: Number.NaN },
  measures: { sharpness: Number.NaN, adaptiveSharpness: Number.NaN, weightNorm: Number.NaN },
});
