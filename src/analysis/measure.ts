// What all measures share: model and data checked, options parsed and parted as the native side takes them, progress told,
// and an abort signal obeyed. A measure looks at a model in evaluation mode and leaves it as it was, bit for bit.

import { z } from 'zod';
import { call } from '../call.js';
import { type DatasetSource, nativeDataset, resolveDataset } from '../dataset.js';
import { FlatminError } from '../errors.js';
import { type Model, nativeModel, requireModel } from '../model.js';
import type { BindingAnalysis, BindingDataset, BindingModel } from '../native/binding.js';
import { loadNative } from '../native/index.js';
import { parseOptions, show } from '../options/parse.js';

/** Where a measurement is. */
export interface Progress {
  /** Batches that have gone through the model. */
  done: number;
  /** All that are planned; measures that converge early need fewer. */
  total: number;
}

/** How a measurement is followed and ended. */
export interface MeasureControl {
  /** Called a few times a second. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Ends the measurement after the batch it is in; its promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** What is measured, checked. */
export interface Subject<S extends z.ZodObject> {
  readonly model: BindingModel;
  readonly dataset: BindingDataset;
  readonly options: z.output<S>;
}

const live = z.any().optional();

/** Checks the arguments of a measure and runs `work` on them. */
export async function measure<S extends z.ZodObject, T>(
  name: string,
  args: { readonly model: Model; readonly dataset: DatasetSource; readonly options: z.input<S> & MeasureControl },
  schema: S,
  work: (analysis: BindingAnalysis, subject: Subject<S>) => Promise<T>,
): Promise<T> {
  const subject = `analysis.${name}`;
  const { signal, onProgress, ...options } = parseOptions(
    schema.extend({ signal: live, onProgress: live }),
    args.options,
    subject,
  ) as MeasureControl & z.output<S>;
  checkControl(subject, { signal, onProgress });
  const model = requireModel(args.model, `${subject} model`);
  const dataset = nativeDataset(await resolveDataset(args.dataset, `${subject} dataset`));
  signal?.throwIfAborted();
  let failure: { error: unknown } | undefined;
  const analysis = call(
    () =>
      new (loadNative().BindingAnalysis)((progress) => {
        if (failure) return;
        try {
          onProgress?.(progress);
        } catch (error) {
          failure = { error };
          analysis.stop();
        }
      }),
  );
  const stop = () => analysis.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    const measured = { model: nativeModel(model), dataset, options: options as z.output<S> };
    const result = await call(() => work(analysis, measured));
    if (failure) throw failure.error;
    return result;
  } catch (error) {
    if (failure) throw failure.error;
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

function checkControl(subject: string, { signal, onProgress }: MeasureControl): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${subject} option 'signal': found ${show(signal)}, expected an AbortSignal`,
    );
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${subject} option 'onProgress': found ${show(onProgress)}, expected a function`,
    );
}

interface ImagesOptions {
  readonly batchSize: number;
  readonly loss?: object;
  readonly limit?: number | undefined;
}

/** The images of a measure, as the native side takes them. */
export const dataOf = ({ batchSize, loss, limit }: ImagesOptions) => ({
  batchSize,
  ...(loss !== undefined && { loss }),
  ...(limit !== undefined && { limit }),
});

interface MetricOptions {
  readonly scale: string;
  readonly eta: number;
  readonly adaptive: string;
  readonly linearFilters: boolean;
  readonly perturb: string;
}

/** The metric of a measure, as the native side takes it. */
export const metricOf = ({ scale, eta, adaptive, linearFilters, perturb }: MetricOptions) => ({
  ...{ scale, eta, adaptive, linearFilters, perturb },
});
