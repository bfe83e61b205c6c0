// Three training steps of every optimizer and preset must end where PyTorch's end: goldens/README.md says how those were made.
// float64 is compared closely; float32, whose trajectories part quickly, for one forward and backward.

import { describe, expect, test } from 'vitest';
import type { Model } from '../src/index.js';
import {
  expectAllClose,
  expectClose,
  expectEnd,
  expectLosses,
  expectRelative,
  largest,
  RELATIVE,
  values,
} from './goldens/expect.js';
import * as formula from './goldens/formula.js';
import {
  baseOptimizer,
  type GoldenCase,
  type GoldenFile,
  type GoldenNet,
  gradients,
  type Kept,
  nets,
  numbers,
  type Precision,
  sharpnessAware,
} from './goldens/golden.js';

const timeout = 120_000;

/** Gradients relative to the largest of the whole net: that of a bias before batch norm is only rounding. */
function expectGradients(actual: Record<string, Kept>, golden: Record<string, Kept>): void {
  const tolerance = RELATIVE * largest(Object.values(golden).flatMap(numbers));
  expectAllClose(actual, golden, () => tolerance);
}

/** The steps of a case, taken apart: `backward`, and for SAM and ASAM `ascentStep`, `backward`, `descentStep`. */
async function runApart(net: GoldenNet, golden: GoldenCase): Promise<Model> {
  const model = await net.model('float64', golden.start);
  const optimizer = golden.sharpness
    ? sharpnessAware(model, golden.base, golden.sharpness)
    : baseOptimizer(model, golden.base);
  for (const [index, expected] of golden.steps.entries()) {
    const batch = net.batch(index, 'float64', golden.start);
    expectRelative(`step ${index}: loss`, await model.backward(batch), expected.loss);
    if (!('ascentStep' in optimizer)) {
      await optimizer.step();
      continue;
    }
    const ascent = await optimizer.ascentStep();
    expectRelative(`step ${index}: gradient norm`, ascent.gradientNorm as number, expected.gradientNorm);
    expectRelative(`step ${index}: perturbed loss`, await model.backward(batch), expected.perturbedLoss as number);
    if (index === 0) {
      const golden0 = golden.perturbedGradient as Record<string, Kept>;
      expectGradients(await gradients(model, golden0), golden0);
    }
    await optimizer.descentStep();
  }
  return model;
}

/** The steps of a case through `optimizer.step(batch)`. */
async function runWhole(net: GoldenNet, golden: GoldenCase): Promise<Model> {
  const model = await net.model('float64', golden.start);
  const optimizer = golden.sharpness
    ? sharpnessAware(model, golden.base, golden.sharpness)
    : baseOptimizer(model, golden.base);
  for (const [index, expected] of golden.steps.entries()) {
    const outcome = await optimizer.step(net.batch(index, 'float64', golden.start));
    expectLosses(index, outcome, { perturbedLoss: null, ...expected });
  }
  return model;
}

/** Logits in both modes, loss and gradients from the start, with tolerances for the precision. */
async function expectStart(
  net: GoldenNet<GoldenFile>,
  dtype: Precision,
  tolerances: { logits: number; gradient: number; floor: number },
): Promise<void> {
  const { initial } = net.golden;
  const model = await net.model(dtype);
  const batch = net.batch(0, dtype);
  const logits = tolerances.logits * Math.max(1, largest(initial.trainLogits));
  expectClose('logits, evaluating', await values(await model.forward(batch.images)), initial.evalLogits, logits);
  expectClose(
    'logits, training',
    await values(await model.forward(batch.images, { train: true })),
    initial.trainLogits,
    logits,
  );
  expectClose('loss', [await model.backward(batch)], [initial.loss], logits);
  const floor = tolerances.floor * largest(Object.values(initial.gradient).flatMap(numbers));
  const tolerance = (expected: number[]): number => tolerances.gradient * largest(expected) + floor;
  expectAllClose(await gradients(model, initial.gradient), initial.gradient, tolerance);
}

describe.each(Object.entries(nets))('%s', (_, net) => {
  test('starts from the numbers that the golden run started from', async () => {
    const { formula: golden, shape, numClasses } = net.golden;
    expect(formula.labels(0, shape[0] as number, numClasses)).toEqual(golden['labels/0']);
    const ends = (all: Float64Array): number[] => [all[0] as number, all.at(-1) as number];
    expect(ends(formula.images(0, shape))).toEqual(golden['images/0']);
    for (const [name, tensor] of Object.entries(await (await net.model('float64')).stateDict())) {
      if (!name.endsWith('num_batches_tracked'))
        expect(ends((await tensor.data()) as Float64Array), name).toEqual(golden[name]);
    }
  });

  test('float64: one forward and backward', { timeout }, async () => {
    await expectStart(net, 'float64', { logits: RELATIVE, gradient: 0, floor: RELATIVE });
  });

  test('float32: one forward and backward', { timeout }, async () => {
    await expectStart(net, 'float32', { logits: 1e-4, gradient: 2e-2, floor: 1e-6 });
  });

  test.each(Object.entries(net.golden.cases))('float64, steps taken apart: %s', { timeout }, async (__, golden) => {
    await expectEnd(net, await runApart(net, golden), golden);
  });
});

// One net is enough here: it is the same arithmetic as above, reached by another way.
describe('small net', () => {
  const net = nets['small net'];
  test.each(Object.entries(net.golden.cases))('float64, whole steps: %s', { timeout }, async (_, golden) => {
    await expectEnd(net, await runWhole(net, golden), golden);
  });
});
