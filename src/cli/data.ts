// Opens the data sets that commands name, and always splits them the same way, so that `eval` never sees what `train` learnt.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Dataset, datasets, FlatminError } from '../index.js';
import { UsageError } from './failure.js';
import type { DataOptions } from './fields.js';

/** Digits have no official test set: 500 of the 1,797 images, drawn once with this seed, are it. */
const DIGITS_TEST = 500;
const DIGITS_SEED = 0;

type Part = 'train' | 'test';

/** The training or test images of a data set. */
export async function openSplit(options: DataOptions, split: Part): Promise<Dataset> {
  const { data, dataDir } = options;
  if (data === 'digits') {
    const digits = datasets.digits();
    const [train, test] = digits.split([digits.length - DIGITS_TEST, DIGITS_TEST], { seed: DIGITS_SEED });
    return (split === 'train' ? train : test) as Dataset;
  }
  if (dataDir === undefined) throw new UsageError(`--data ${data} needs --data-dir, ${WHERE[data]}`);
  switch (data) {
    case 'cifar10':
      return datasets.cifar10(dataDir, { split });
    case 'cifar100':
      return datasets.cifar100(dataDir, { split });
    case 'mnist':
      return datasets.mnist(dataDir, { split });
    case 'fashion-mnist':
      return datasets.fashionMnist(dataDir, { split });
    case 'svhn':
      return datasets.svhn(dataDir, { split });
    case 'npz':
      return openNpz(dataDir, split);
    case 'imagefolder':
      return datasets.imageFolder(partFolder(dataDir, split), imageOptions(options));
    case 'webdataset':
      return datasets.webdataset(partFolder(dataDir, split), imageOptions(options));
  }
}

const download = (name: string) => `the folder of its files; 'flatmin data download ${name} DIR' brings them`;

/** What `--data-dir` is for each data set that needs it. */
const WHERE: Readonly<Record<Exclude<DataOptions['data'], 'digits'>, string>> = {
  cifar10: download('cifar10'),
  cifar100: download('cifar100'),
  mnist: download('mnist'),
  'fashion-mnist': download('fashion-mnist'),
  svhn: download('svhn'),
  npz: 'a .npz file with the arrays x_train, y_train, x_test, y_test, or a folder of train.npz and test.npz',
  imagefolder: 'a folder with train/ and val/ (or test/), each with one subfolder a class',
  webdataset: 'a folder with train/ and val/ (or test/), each with .tar shards',
};

const imageOptions = ({ size = 224, resize, badImages }: DataOptions) => ({ size, resize, badImages });

const PARTS: Readonly<Record<Part, readonly string[]>> = { train: ['train'], test: ['val', 'validation', 'test'] };

/** The subfolder of a part; a folder without such subfolders is all training images. */
function partFolder(dir: string, split: Part): string {
  const found = PARTS[split].map((name) => join(dir, name)).find((folder) => existsSync(folder));
  if (found !== undefined) return found;
  if (split === 'train') return dir;
  throw new FlatminError(
    'ERR_FLATMIN_PATH',
    `${dir}: found no val, validation or test folder in it, expected one of them; without test images, train with --no-test`,
  );
}

/** Keras and MedMNIST name the arrays of an archive like this; `images` and `labels` are NumPy users' own. */
async function openNpz(dir: string, split: Part): Promise<Dataset> {
  if (existsSync(dir) && statSync(dir).isDirectory()) return datasets.npz(join(dir, `${split}.npz`));
  const names = [
    [`x_${split}`, `y_${split}`],
    [`${split}_images`, `${split}_labels`],
    ...(split === 'train' ? [['images', 'labels']] : []),
  ] as [string, string][];
  let failure: unknown;
  for (const [images, labels] of names) {
    try {
      return await datasets.npz(dir, { images, labels });
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

/** Name of the model that suits a data set, for commands called without `--model`. */
export const defaultModel = (data: DataOptions['data']) =>
  ['digits', 'mnist', 'fashion-mnist'].includes(data) ? 'demo' : 'resnet20';

/** Options with which a model of the zoo fits a data set: its classes and the shape of its images. */
export function zooOptionsFor(dataset: Dataset) {
  const [height, width, channels] = dataset.shape;
  return {
    numClasses: dataset.numClasses,
    inputShape: [channels, height, width] as [number, number, number],
    classNames: [...dataset.classNames],
    normalization: dataset.normalization,
  };
}
