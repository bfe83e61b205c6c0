// Where data sets come from: embedded digits, arrays and generators from JavaScript, and (in `dataset-files.ts`) files.

import { call } from './call.js';
import { Dataset, type DatasetDescription, type DatasetSource, resolveDataset } from './dataset.js';
import { FlatminError } from './errors.js';
import { loadNative } from './native/index.js';
import { type ArraysOptions, arraysSchema, type GeneratorOptions, generatorSchema } from './options/data.js';
import { parseOptions, show } from './options/parse.js';

export {
  type Inspection,
  inspect,
  type JobOptions,
  type JobProgress,
  type Manifest,
  pack,
  preview,
  type Shown,
  type Verification,
  verify,
} from './data-tools.js';
export {
  cifar10,
  cifar100,
  fashionMnist,
  imageFolder,
  mnist,
  npz,
  svhn,
  webdataset,
} from './dataset-files.js';
export { type DownloadOptions, download } from './download.js';

/** Pixels: bytes from 0 to 255, or numbers in [0, 1]. */
export type Pixels = Uint8Array | Uint8ClampedArray | Float32Array;

/** A data set as arrays. */
export interface ArraysInput extends ArraysOptions {
  /** All images one after the other: [images, height, width, channels]. */
  images: Pixels;
  /** One class number for each image. */
  labels: readonly number[] | Uint8Array | Uint16Array | Uint32Array | Int32Array;
}

/** One image and its class, as generators yield them. */
export interface Sample {
  /** [height, width, channels] */
  image: Pixels;
  label: number;
}

/** 1,797 handwritten digits of 8 x 8 pixels in 10 classes (UCI, by E. Alpaydin and C. Kaynak); comes with flatmin. */
export function digits(): Dataset {
  return new Dataset(call(() => loadNative().BindingDataset.digits()));
}

/** Name, shape and images per class of a data set, or of the promise of one. */
export async function describe(source: DatasetSource): Promise<DatasetDescription> {
  return (await resolveDataset(source, 'datasets.describe source')).describe();
}

/** A data set from arrays, copied. */
export function fromArrays(input: ArraysInput): Dataset {
  const { images, labels, ...rest } = input ?? {};
  const options = parseOptions(arraysSchema, rest, 'datasets.fromArrays');
  const pixels = checkPixels(images, 'datasets.fromArrays images');
  const classes = checkLabels(labels, 'datasets.fromArrays labels');
  const { shape, ...naming } = options;
  const expected = classes.length * shape[0] * shape[1] * shape[2];
  if (pixels.length !== expected) {
    throw new FlatminError(
      'ERR_FLATMIN_SHAPE',
      `datasets.fromArrays: found ${pixels.length} pixel values for ${classes.length} labels of shape [${shape.join(', ')}], expected ${expected}`,
    );
  }
  const sizes = [classes.length, ...shape];
  const { BindingDataset: binding } = loadNative();
  return new Dataset(
    call(() =>
      pixels instanceof Float32Array
        ? binding.fromFloat32(pixels, sizes, classes, naming)
        : binding.fromUint8(pixels, sizes, classes, naming),
    ),
  );
}

/** Collects the samples of a generator into memory: `async function* () { yield { image, label } }`, or any iterable. */
export async function fromGenerator(
  samples: AsyncIterable<Sample> | Iterable<Sample>,
  options: GeneratorOptions,
): Promise<Dataset> {
  const { limit = Number.POSITIVE_INFINITY, ...checked } = parseOptions(
    generatorSchema,
    options,
    'datasets.fromGenerator',
  );
  if (!isIterable(samples)) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `datasets.fromGenerator samples: found ${show(samples)}, expected a generator or an iterable`,
    );
  }
  const elements = checked.shape[0] * checked.shape[1] * checked.shape[2];
  const images: Pixels[] = [];
  const labels: number[] = [];
  for await (const sample of samples) {
    images.push(checkSample(sample, images, elements));
    labels.push(sample.label);
    if (images.length >= limit) break;
  }
  return fromArrays({ images: concatenate(images, elements), labels, ...checked });
}

function checkSample(sample: Sample, before: readonly Pixels[], elements: number): Pixels {
  const place = `datasets.fromGenerator sample ${before.length}`;
  const image = checkPixels(sample?.image, `${place} image`).slice();
  if (image.length !== elements) {
    throw new FlatminError(
      'ERR_FLATMIN_SHAPE',
      `${place}: found an image of ${image.length} values, expected ${elements}`,
    );
  }
  const first = before[0];
  if (first && first instanceof Float32Array !== image instanceof Float32Array) {
    throw new FlatminError(
      'ERR_FLATMIN_DTYPE',
      `${place}: found ${show(image)}, expected a ${first.constructor.name} as in sample 0`,
    );
  }
  return image;
}

function concatenate(images: readonly Pixels[], elements: number): Pixels {
  const first = images[0];
  if (!first)
    throw new FlatminError(
      'ERR_FLATMIN_DATA',
      'datasets.fromGenerator: the generator gave no sample, expected at least one',
    );
  const length = images.length * elements;
  const all = first instanceof Float32Array ? new Float32Array(length) : new Uint8Array(length);
  for (const [index, image] of images.entries()) all.set(image, index * elements);
  return all;
}

function checkPixels(images: unknown, argument: string): Uint8Array | Float32Array {
  if (images instanceof Float32Array || images instanceof Uint8Array) return images;
  if (images instanceof Uint8ClampedArray) return new Uint8Array(images.buffer, images.byteOffset, images.length);
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `${argument}: found ${show(images)}, expected a Uint8Array (0 to 255) or a Float32Array (0 to 1)`,
  );
}

function checkLabels(labels: unknown, argument: string): Uint32Array {
  if (labels instanceof Uint32Array) return labels;
  if (!Array.isArray(labels) && !(ArrayBuffer.isView(labels) && 'length' in labels)) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${argument}: found ${show(labels)}, expected a list of class numbers`,
    );
  }
  const list = labels as readonly number[];
  const wrong = list.findIndex((label) => !Number.isInteger(label) || label < 0 || label > 0xffff_ffff);
  if (wrong >= 0) {
    throw new FlatminError(
      'ERR_FLATMIN_DATA',
      `${argument}: found ${show(list[wrong])} at ${wrong}, expected class numbers from 0 on`,
    );
  }
  return Uint32Array.from(list);
}

function isIterable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);
}
