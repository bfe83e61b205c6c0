// Data sets that lie in files: the published ones in their own formats, image folders, tar shards, NumPy archives.

import type { z } from 'zod';
import { call } from './call.js';
import { Dataset } from './dataset.js';
import { loadNative } from './native/index.js';
import {
  type ImagesOptions,
  imagesSchema,
  type NpzOptions,
  npzSchema,
  type PartOptions,
  partSchema,
  type SVHNOptions,
  svhnSchema,
} from './options/data.js';
import { path, paths } from './options/fields.js';
import { parseOptions } from './options/parse.js';

/** CIFAR-10 from the folder of its binary or Python version, or the folder above it. */
export async function cifar10(dir: string, options: PartOptions = {}): Promise<Dataset> {
  return published('cifar10', dir, partSchema, options);
}

/** CIFAR-100 (fine labels) from the folder of its binary or Python version, or the folder above it. */
export async function cifar100(dir: string, options: PartOptions = {}): Promise<Dataset> {
  return published('cifar100', dir, partSchema, options);
}

/** MNIST from the folder of its idx files, gzipped or not, or the folder above it. */
export async function mnist(dir: string, options: PartOptions = {}): Promise<Dataset> {
  return published('mnist', dir, partSchema, options);
}

/** Fashion-MNIST from the folder of its idx files, gzipped or not, or the folder above it. */
export async function fashionMnist(dir: string, options: PartOptions = {}): Promise<Dataset> {
  return published('fashionMnist', dir, partSchema, options);
}

/** SVHN's cropped digits from the folder of `train_32x32.mat` and its sisters, or the folder above it. */
export async function svhn(dir: string, options: SVHNOptions = {}): Promise<Dataset> {
  return published('svhn', dir, svhnSchema, options);
}

/**
 * A folder of JPEG, PNG and WebP files, one subfolder a class, as ImageNet is kept. Images are decoded when they are needed.
 * Classes are the subfolders in the order of their names; synsets (`n01440764`) get readable names.
 */
export async function imageFolder(dir: string, options: ImagesOptions = {}): Promise<Dataset> {
  const images = imagesOf(options, 'datasets.imageFolder');
  return open({ type: 'imageFolder', dir: parseOptions(path, dir, 'datasets.imageFolder dir'), images });
}

/**
 * WebDataset shards: `.tar` files of `key.jpg` and `key.cls` (or a `key.json` with a whole number called label, cls or class).
 * Class names come from `classes.txt` beside the shards where there is one.
 * @param shards A folder, a file, a pattern such as `train-{000000..000146}.tar` or `train-*.tar`, or a list of these.
 */
export async function webdataset(shards: string | readonly string[], options: ImagesOptions = {}): Promise<Dataset> {
  const images = imagesOf(options, 'datasets.webdataset');
  const list = parseOptions(paths, typeof shards === 'string' ? [shards] : shards, 'datasets.webdataset shards');
  return open({ type: 'webdataset', shards: list, images });
}

/**
 * Two arrays of a NumPy archive (`np.savez`): images [images, height, width(, channels)] as uint8 or as floats in [0, 1], and
 * class numbers.
 */
export async function npz(file: string, options: NpzOptions = {}): Promise<Dataset> {
  const checked = parseOptions(path, file, 'datasets.npz file');
  return open({ type: 'npz', path: checked, ...parseOptions(npzSchema, options, 'datasets.npz') });
}

async function published(
  type: string,
  dir: string,
  schema: typeof partSchema | typeof svhnSchema,
  options: z.input<typeof schema>,
): Promise<Dataset> {
  const folder = parseOptions(path, dir, `datasets.${type} dir`);
  return open({ type, dir: folder, ...parseOptions(schema, options, `datasets.${type}`) });
}

function imagesOf(options: ImagesOptions, subject: string): object {
  const { size, ...rest } = parseOptions(imagesSchema, options, subject);
  const [height, width] = typeof size === 'number' ? [size, size] : size;
  return { height, width, ...rest };
}

async function open(source: { type: string; [option: string]: unknown }): Promise<Dataset> {
  return new Dataset(await call(() => loadNative().BindingDataset.open(source)));
}
