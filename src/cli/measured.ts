// What the commands that measure a trained model share: its weights, the images it is measured on, a line that shows how far
// the measurement is, and an end at Ctrl-C.
import { z } from 'zod';
import type { MeasureControl } from '../analysis/index.js';
import type { Dataset, Model } from '../index.js';
import type { Context } from './command.js';
import { openSplit } from './data.js';
import { EXIT } from './failure.js';
import { computeDevice, dataFields } from './fields.js';
import { onInterrupt } from './interrupt.js';
import { clock } from './progress.js';
import { findWeights, openModel, weightsFields } from './weights.js';

/** Which images. Flatness is a property of the loss that was trained, so the training images come first. */
export const measuredImagesFields = {
  ...dataFields,
  split: z.enum(['train', 'test']).default('train').describe('Part of the data set'),
};

/** Which weights, on which images, and where. */
export const measuredFields = { ...weightsFields, device: computeDevice, ...measuredImagesFields };

type ImagesOptions = z.output<z.ZodObject<typeof measuredImagesFields>>;
type MeasuredOptions = z.output<z.ZodObject<typeof measuredFields>>;

/** The images that the options name, in the model's own size unless they name one. */
export const openMeasuredImages = (options: ImagesOptions, ownSize: number | undefined): Promise<Dataset> =>
  openSplit({ ...options, size: options.size ?? ownSize }, options.split);

/** The model and the images that the options name. */
export async function openMeasured(
  options: MeasuredOptions,
  { output }: Context,
): Promise<{ model: Model; dataset: Dataset }> {
  const weights = findWeights(options);
  const dataset = await openMeasuredImages(options, weights.size);
  return { model: await openModel(weights, dataset, output), dataset };
}

/** Runs a measurement; nothing when Ctrl-C has ended it. */
export async function observe<T>(
  { output, exit }: Context,
  name: string,
  work: (control: MeasureControl) => Promise<T>,
): Promise<T | undefined> {
  const controller = new AbortController();
  using interrupt = onInterrupt(() => controller.abort());
  const start = performance.now();
  try {
    return await work({
      signal: controller.signal,
      onProgress: ({ done, total }) => {
        const left = ((performance.now() - start) / 1000) * (total / done - 1);
        output.progress(`${name} ${((100 * done) / total).toFixed(0)} %  at most ${clock(left)} left`);
      },
    });
  } catch (error) {
    if (!interrupt.requested) throw error;
    exit(EXIT.interrupted);
    return undefined;
  } finally {
    output.done();
  }
}
