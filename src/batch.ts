// A batch: images and their labels, as custom loops pass them to `model.backward` and `optimizer.step`.

import { FlatminError } from './errors.js';
import type { BindingTensor } from './native/binding.js';
import { show } from './options/parse.js';
import { nativeTensor, requireTensor, Tensor } from './tensor.js';

/** Class labels, one number for each image, or a tensor. */
export type Labels = Tensor | readonly number[] | Uint8Array | Uint32Array | Int32Array | BigInt64Array;

/** Images and labels of one step. */
export interface Batch {
  /** [batch, channels, height, width], normalised, in the model's dtype. */
  images: Tensor;
  /** [batch] int64 class labels, or [batch, classes] targets in the model's dtype. */
  labels: Labels;
}

/** Runs `use` with the native tensors of a batch; labels that were given as an array are freed afterwards. */
export async function withBatch<T>(
  batch: unknown,
  subject: string,
  use: (images: BindingTensor, labels: BindingTensor) => Promise<T>,
): Promise<T> {
  const { images, labels } = checkBatch(batch, subject);
  const imageTensor = nativeTensor(requireTensor(images, `${subject} batch.images`));
  if (labels instanceof Tensor) return use(imageTensor, nativeTensor(labels));
  const converted = labelTensor(labels, subject);
  try {
    return await use(imageTensor, nativeTensor(converted));
  } finally {
    converted.dispose();
  }
}

function checkBatch(batch: unknown, subject: string): { images: unknown; labels: unknown } {
  if (typeof batch === 'object' && batch !== null && 'images' in batch && 'labels' in batch) return batch;
  throw new FlatminError('ERR_FLATMIN_OPTION', `${subject}: found ${show(batch)}, expected a batch { images, labels }`);
}

function labelTensor(labels: unknown, subject: string): Tensor {
  const isList = Array.isArray(labels) || (ArrayBuffer.isView(labels) && !(labels instanceof DataView));
  if (!isList) {
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `${subject} batch.labels: found ${show(labels)}, expected a Tensor or a list of class numbers`,
    );
  }
  const list = labels as readonly number[] | BigInt64Array;
  return Tensor.from(list instanceof BigInt64Array ? list : Array.from(list, Number), [list.length], {
    dtype: 'int64',
  });
}
