// Small models and batches that the tests of several modules share.

import { expect } from 'vitest';
import { type Batch, type Layer, layers, Model, type SequentialOptions, type StateDict, Tensor } from '../src/index.js';
import { uniform } from './goldens/formula.js';

/** Convolution, batch norm, ReLU, pooling, linear: for images [1, 8, 8] in 3 classes. */
export function convNet(options: Partial<SequentialOptions> & { bnEps?: number } = {}): Model {
  const { bnEps = 1e-5, ...rest } = options;
  const list: Layer[] = [
    layers.conv2d(4, 3, { padding: 1 }),
    layers.batchNorm2d({ eps: bnEps }),
    layers.relu(),
    layers.maxPool2d(2),
    layers.flatten(),
    layers.linear(3),
  ];
  return Model.sequential(list, { inputShape: [1, 8, 8], seed: 3, ...rest });
}

/** One linear layer of `inputs` numbers in `classes` classes, in float64 unless told. */
export function linearNet(inputs: number, classes: number, options: Partial<SequentialOptions> = {}): Model {
  return Model.sequential([layers.flatten(), layers.linear(classes)], {
    inputShape: [1, 1, inputs],
    dtype: 'float64',
    seed: 5,
    ...options,
  });
}

/** A batch for {@link convNet}, by a formula of its number. */
export function convBatch(
  number: number,
  { count = 6, dtype = 'float32' }: { count?: number; dtype?: 'float32' | 'float64' } = {},
): Batch {
  const images = Tensor.from(uniform(`batch ${number}`, count * 64), [count, 1, 8, 8], { dtype });
  return { images, labels: Array.from({ length: count }, (_, index) => (index + number) % 3) };
}

/** All parameters and statistics as numbers. */
export async function numbersOf(state: StateDict): Promise<Record<string, number[]>> {
  const entries = Object.entries(state).map(
    async ([name, tensor]) => [name, Array.from(await tensor.data(), Number)] as const,
  );
  return Object.fromEntries(await Promise.all(entries));
}

/** All parameters and statistics of a model as numbers. */
export async function weightsOf(model: Model): Promise<Record<string, number[]>> {
  return numbersOf(await model.stateDict());
}

/** The code and message of the error that `action` throws or rejects with. */
export async function errorOf(action: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await action();
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error('expected an error, found none');
}

/** Checks that two lists hold the same numbers, up to half a unit of the `digits`-th decimal. */
export function expectClose(actual: ArrayLike<number | bigint>, expected: readonly number[], digits = 10): void {
  expect(actual.length).toBe(expected.length);
  for (const [index, value] of expected.entries())
    expect(Number(actual[index]), `number ${index}`).toBeCloseTo(value, digits);
}
