// What people do with a data set before they train on it: look at it, pack it into shards, check these, see it augmented.
// The work runs on threads of the native side; here lie its options, its progress and its end.

import { availableParallelism } from 'node:os';
import { call } from './call.js';
import { type DatasetDescription, type DatasetSource, nativeDataset, resolveDataset } from './dataset.js';
import { type BindingDataJob, loadNative } from './native/index.js';
import { jobSchema, type PackOptions, type PreviewOptions, packSchema, previewSchema } from './options/data.js';
import { path } from './options/fields.js';
import type { Normalization } from './options/model.js';
import { parseOptions } from './options/parse.js';

/** How far a job is: images, or shards. */
export interface JobProgress {
  done: number;
  total: number;
}

/** Options of long work on data sets. */
export interface JobOptions {
  /** Threads that decode images (default: one per core). */
  threads?: number | undefined;
  /** Ends the work early; it then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: JobProgress) => void) | undefined;
}

/** The least, middle and greatest of the images' sides, in pixels. */
export interface Spread {
  min: number;
  median: number;
  max: number;
}

/** What {@link inspect} finds. */
export interface Inspection extends DatasetDescription {
  /** How images are kept: `uint8`, `float32` or `encoded`. */
  dtype: string;
  /** Bytes of all files; 0 for images in memory. */
  bytes: number;
  /** Files of each format. */
  formats: Record<string, number>;
  /** Of the files; null for images in memory. */
  width: Spread | null;
  height: Spread | null;
  /** Mean and deviation of all pixels as evaluation sees them. */
  measured: Normalization;
  /** Images that cannot be read or decoded. */
  brokenCount: number;
  /** What is wrong with them, by name; the first 1,000. */
  broken: string[];
}

/** What lies in a folder of packed shards: its `shards.json`. */
export interface Manifest {
  name: string;
  /** Images of the set that was packed. */
  images: number;
  totalShards: number;
  shards: { file: string; samples: number; bytes: number; sha256: string }[];
  /** Images that could not be decoded and were left out, each with what was wrong. */
  leftOut: string[];
}

/** What {@link verify} finds. */
export interface Verification {
  shards: number;
  /** Images that decoded. */
  images: number;
  faultCount: number;
  /** What is wrong; the first 1,000. */
  faults: string[];
}

/** What a contact sheet shows, row by row. */
export interface Shown {
  rows: number;
  columns: number;
  labels: number[];
}

/** Decodes every image once: sizes, formats, images per class, broken files by name, mean and deviation. */
export async function inspect(source: DatasetSource, options: JobOptions = {}): Promise<Inspection> {
  const { threads, ...watch } = jobOptions(options, 'datasets.inspect');
  const dataset = await resolveDataset(source, 'datasets.inspect source');
  const native = nativeDataset(dataset);
  const found = await run<Inspection>(() => loadNative().BindingDataJob.inspect(native, threads), watch);
  const { shape, normalization } = dataset;
  return { ...found, shape, normalization };
}

/**
 * Packs a set of image files into WebDataset shards in `dir`, with checksums in `shards.json`. A pack that was interrupted
 * goes on where it was when it is called again.
 */
export async function pack(
  source: DatasetSource,
  dir: string,
  options: PackOptions & JobOptions = {},
): Promise<Manifest> {
  const { signal, onProgress, ...plain } = options ?? {};
  const { threads = availableParallelism(), ...packing } = parseOptions(packSchema, plain, 'datasets.pack');
  const folder = parseOptions(path, dir, 'datasets.pack dir');
  const dataset = nativeDataset(await resolveDataset(source, 'datasets.pack source'));
  return run(() => loadNative().BindingDataJob.pack(dataset, folder, packing, threads), { signal, onProgress });
}

/** Checks the shards that {@link pack} wrote: sizes, SHA-256 sums, and that every image decodes. */
export async function verify(dir: string, options: JobOptions = {}): Promise<Verification> {
  const { threads, ...watch } = jobOptions(options, 'datasets.verify');
  const folder = parseOptions(path, dir, 'datasets.verify dir');
  return run(() => loadNative().BindingDataJob.verify(folder, threads), watch);
}

/** Writes a contact sheet of augmented images, a PNG. */
export async function preview(source: DatasetSource, file: string, options: PreviewOptions = {}): Promise<Shown> {
  const checked = parseOptions(previewSchema, options, 'datasets.preview');
  const target = parseOptions(path, file, 'datasets.preview file');
  const dataset = nativeDataset(await resolveDataset(source, 'datasets.preview source'));
  return run(() => loadNative().BindingDataJob.preview(dataset, target, checked), {});
}

function jobOptions({ signal, onProgress, ...plain }: JobOptions, subject: string) {
  const { threads = availableParallelism() } = parseOptions(jobSchema, plain, subject);
  return { threads, signal, onProgress };
}

/** Milliseconds between two looks at a job's progress. */
const PROGRESS_MS = 100;

async function run<T>(start: () => BindingDataJob, { signal, onProgress }: Omit<JobOptions, 'threads'>): Promise<T> {
  signal?.throwIfAborted();
  const job = call(start);
  const report = () => {
    const [done = 0, total = 0] = job.progress();
    if (total > 0) onProgress?.({ done, total });
  };
  const timer = setInterval(report, PROGRESS_MS);
  const stop = () => job.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const result = (await call(() => job.result())) as T;
    report();
    return result;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', stop);
  }
}
