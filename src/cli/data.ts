// Opens the data sets that commands name, and always splits them the same way, so that `eval` never sees what `train` learnt.
import { type Dataset, datasets } from '../index.js';
import { UsageError } from './failure.js';

interface DataOptions {
  readonly data: 'digits' | 'cifar10' | 'cifar100';
  readonly dataDir?: string | undefined;
}

/** Digits have no official test set: 500 of the 1,797 images, drawn once with this seed, are it. */
const DIGITS_TEST = 500;
const DIGITS_SEED = 0;

/** The training or test images of a data set. */
export async function openSplit(options: DataOptions, split: 'train' | 'test'): Promise<Dataset> {
  const { data, dataDir } = options;
  if (data === 'digits') {
    const digits = datasets.digits();
    const [train, test] = digits.split([digits.length - DIGITS_TEST, DIGITS_TEST], { seed: DIGITS_SEED });
    return (split === 'train' ? train : test) as Dataset;
  }
  if (dataDir === undefined) {
    throw new UsageError(
      `--data ${data} needs --data-dir, the folder of its binary files; 'flatmin data download ${data} DIR' brings them`,
    );
  }
  return data === 'cifar10' ? datasets.cifar10(dataDir, { split }) : datasets.cifar100(dataDir, { split });
}

/** Name of the model that suits a data set, for commands called without `--model`. */
export const defaultModel = (data: DataOptions['data']) => (data === 'digits' ? 'demo' : 'resnet20');

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
