// A data set: images [height, width, channels] and one label each, kept by the native side, in memory or as files.
// Splits, subsets and noisy copies share the images.

import type { Batch } from './batch.js';
import { call } from './call.js';
import { FlatminError } from './errors.js';
import { type BindingDataset, loadNative } from './native/index.js';
import {
  type BatchesOptions,
  batchesSchema,
  type ImageShape,
  imageFields,
  type LabelNoiseOptions,
  labelNoiseFraction,
  labelNoiseSchema,
  type SplitOptions,
  splitSchema,
  splitSizesSchema,
  type WithSizeOptions,
  withSizeSchema,
} from './options/data.js';
import { positiveInteger } from './options/fields.js';
import type { Normalization } from './options/model.js';
import { parseOptions, show } from './options/parse.js';
import { Tensor } from './tensor.js';

/** Where a data set is expected: the set, or the promise of one as `datasets.cifar10()` gives. */
export type DatasetSource = Dataset | PromiseLike<Dataset>;

/** What `dataset.describe()` gives. */
export interface DatasetDescription {
  name: string;
  count: number;
  /** [height, width, channels] */
  shape: ImageShape;
  numClasses: number;
  classes: { label: number; name: string; count: number }[];
  normalization: Normalization;
}

/** One image of a data set, as `dataset.get(index)` gives it. */
export interface DatasetItem {
  /** Pixels in [0, 1], [height, width, channels]. */
  image: Float32Array;
  label: number;
  /** Path of the file, or shard and member; null for images in memory. */
  name: string | null;
}

/** One data set for each size. */
export type Parts<Sizes extends readonly number[]> = { -readonly [K in keyof Sizes]: Dataset };

let nativeOf: (dataset: Dataset) => BindingDataset;

/** Images with labels. Made by {@link datasets}. */
export class Dataset {
  readonly #native: BindingDataset;

  /** @internal Use {@link datasets}. */
  constructor(native: BindingDataset) {
    this.#native = native;
  }

  static {
    nativeOf = (dataset) => dataset.#native;
  }

  /** Name of the set, such as `cifar10`. */
  get name(): string {
    return this.#native.name;
  }

  /** Number of images. */
  get length(): number {
    return this.#native.length;
  }

  /** Shape of one image: [height, width, channels]. */
  get shape(): ImageShape {
    return this.#native.shape as ImageShape;
  }

  /** Names of the classes in the order of the labels. */
  get classNames(): string[] {
    return this.#native.classNames;
  }

  get numClasses(): number {
    return this.#native.numClasses;
  }

  /** Recommended normalisation of pixels in [0, 1]. */
  get normalization(): Normalization {
    return this.#native.normalization;
  }

  /** All labels, copied. */
  labels(): Uint32Array {
    return call(() => this.#native.labels());
  }

  /** Pixels of one image in [0, 1], [height, width, channels], copied; of an image file as evaluation sees it. */
  pixels(index: number): Float32Array {
    this.#checkIndex(index, 'pixels');
    return call(() => this.#native.pixels(index));
  }

  /** One image, its label, and its name where it is a file: the path, or shard and member. */
  get(index: number): DatasetItem {
    this.#checkIndex(index, 'get');
    const native = this.#native;
    return call(() => ({ image: native.pixels(index), label: native.label(index), name: native.imageName(index) }));
  }

  #checkIndex(index: number, method: string): void {
    if (Number.isInteger(index) && index >= 0 && index < this.length) return;
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `dataset.${method} index: found ${show(index)}, expected a whole number from 0 to ${this.length - 1}`,
    );
  }

  /**
   * Parts without common images, drawn by seed.
   * @param sizes All shares (`[0.9, 0.1]`, together at most 1) or all counts (`[1297, 500]`); images beyond them are left out.
   */
  split<const Sizes extends readonly number[]>(sizes: Sizes, options: SplitOptions = {}): Parts<Sizes> {
    const { seed } = parseOptions(splitSchema, options, 'dataset.split');
    const counts = splitCounts(parseOptions(splitSizesSchema, sizes, 'dataset.split sizes'), this.length);
    return call(() => this.#native.split(counts, seed)).map((part) => new Dataset(part)) as Parts<Sizes>;
  }

  /**
   * The same images with exactly `round(length * fraction)` of the labels, chosen by seed, replaced by another class drawn
   * uniformly (symmetric noise).
   */
  withLabelNoise(fraction: number, options: LabelNoiseOptions = {}): Dataset {
    const share = parseOptions(labelNoiseFraction, fraction, 'dataset.withLabelNoise fraction');
    const { seed } = parseOptions(labelNoiseSchema, options, 'dataset.withLabelNoise');
    return new Dataset(call(() => this.#native.withLabelNoise(share, seed)));
  }

  /**
   * The same image files in another size, for training at growing sizes. Images in memory have one size.
   * @param size Side of the images in pixels, or [height, width].
   */
  withSize(size: number | readonly [number, number], options: WithSizeOptions = {}): Dataset {
    const side = parseOptions(imageFields.size, size, 'dataset.withSize size');
    const [height, width] = typeof side === 'number' ? [side, side] : side;
    const { resize = Math.ceil((Math.max(height, width) * 8) / 7) } = parseOptions(
      withSizeSchema,
      options,
      'dataset.withSize',
    );
    return new Dataset(call(() => this.#native.withSize(height, width, resize)));
  }

  /** Image files that could not be read or decoded so far, in training or elsewhere: how many, and what is wrong with each. */
  faults(): { count: number; messages: string[] } {
    return call(() => this.#native.faults());
  }

  /** The first `count` images, or all when there are fewer. */
  take(count: number): Dataset {
    const checked = parseOptions(positiveInteger, count, 'dataset.take count');
    return new Dataset(call(() => this.#native.take(checked)));
  }

  /** Name, shape and images per class. */
  describe(): DatasetDescription {
    const { name, length, shape, numClasses, classNames, normalization } = this;
    const counts = new Array<number>(numClasses).fill(0);
    for (const label of this.labels()) counts[label] = (counts[label] ?? 0) + 1;
    const classes = classNames.map((className, label) => ({ label, name: className, count: counts[label] ?? 0 }));
    return { name, count: length, shape, numClasses, classes, normalization };
  }

  /**
   * One epoch of batches for custom loops, loaded ahead by threads: the very images that a Trainer with the same options trains
   * on. The tensors of a batch are disposed of when the next one is drawn; leaving the loop stops the threads.
   *
   * Images are [batch, channels, height, width], normalised; with `dtype: 'uint8'` they are not, and 255 is white. Labels are
   * int64 [batch]; mixup and cutmix make them float64 [batch, classes], the share of each class.
   */
  async *batches(options: BatchesOptions = {}): AsyncGenerator<Batch & { labels: Tensor }, void, undefined> {
    const { epoch, startBatch, ...config } = parseOptions(batchesSchema, options, 'dataset.batches');
    const native = call(() => loadNative().BindingBatches.start(this.#native, config, epoch, startBatch));
    try {
      for (;;) {
        const next = await call(() => native.next());
        if (next === null) return;
        const batch = { images: new Tensor(next.images), labels: new Tensor(next.labels) };
        try {
          yield batch;
        } finally {
          batch.images.dispose();
          batch.labels.dispose();
        }
      }
    } finally {
      await call(() => native.close());
    }
  }
}

/** @internal The native object of a data set. */
export const nativeDataset = (dataset: Dataset): BindingDataset => nativeOf(dataset);

/** @internal Waits for a data set and checks that it is one. */
export async function resolveDataset(source: unknown, argument: string): Promise<Dataset> {
  const dataset: unknown = await source;
  if (dataset instanceof Dataset) return dataset;
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `${argument}: found ${show(dataset)}, expected a Dataset such as datasets.digits()`,
  );
}

/** Counts from shares or counts; shares are cut cumulatively, so those that add up to 1 cover the whole set. */
function splitCounts(sizes: readonly number[], length: number): number[] {
  const sum = sizes.reduce((total, size) => total + size, 0);
  if (sum > 1 + 1e-9 || sizes.some((size) => size > 1)) return countsWithin(sizes, sum, length);
  let shares = 0;
  let before = 0;
  return sizes.map((share) => {
    shares += share;
    const cut = Math.min(length, Math.round(shares * length));
    const count = cut - before;
    before = cut;
    if (count > 0) return count;
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `dataset.split sizes: found the share ${share}, expected at least one of ${length} images in each part`,
    );
  });
}

function countsWithin(sizes: readonly number[], sum: number, length: number): number[] {
  if (sizes.every((size) => Number.isInteger(size) && size > 0) && sum <= length) return [...sizes];
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `dataset.split sizes: found ${show([...sizes])}, expected shares that add up to at most 1, or counts that add up to at most ${length}`,
  );
}
