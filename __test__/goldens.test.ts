// Three training steps of every optimizer and preset must end where PyTorch's end: goldens/README.md says how those were made.
// float64 is compared closely; float32, whose trajectories part quickly, for one forward and backward.

import { describe, expect, test } from 'vitest';
import type { Model, Tensor } from '../src/index.js';
import * as formula from './goldens/formula.js';
import {
  baseOptimizer,
  type GoldenCase,
  type GoldenNet,
  type GoldenStep,
  gradients,
  type Kept,
  keep,
  nets,
  numbers,
  type Precision,
  sharpnessAware,
} from './goldens/golden.js';

const WEIGHTS = 1e-10;
const RELATIVE = 1e-9;
const timeout = 120_000;

const largest = (values: readonly number[]): number => Math.max(...values.map(Math.abs));

/** Fails when one of some numbers is farther than `tolerance` from the golden one. */
function expectClose(what: string, actual: readonly number[], golden: readonly number[], tolerance: number): void {
  expect(actual.length, `${what}: count`).toBe(golden.length);
  const distances = golden.map((value, i) => Math.abs((actual[i] as number) - value));
  const finite = distances.every(Number.isFinite);
  expect(finite ? largest(distances) : Number.NaN, `${what}: farthest from its golden value`).toBeLessThanOrEqual(
    tolerance,
  );
}

/** The same for every tensor of a record. */
function expectAllClose(
  actual: Record<string, Kept>,
  golden: Record<string, Kept>,
  tolerance: (golden: number[]) => number,
): void {
  for (const [name, kept] of Object.entries(golden)) {
    const expected = numbers(kept);
    expectClose(name, numbers(actual[name] as Kept), expected, tolerance(expected));
  }
}

/** Gradients relative to the largest of the whole net: that of a bias before batch norm is only rounding. */
function expectGradients(actual: Record<string, Kept>, golden: Record<string, Kept>): void {
  const tolerance = RELATIVE * largest(Object.values(golden).flatMap(numbers));
  expectAllClose(actual, golden, () => tolerance);
}

function expectRelative(what: string, actual: number, golden: number): void {
  expectClose(what, [actual], [golden], RELATIVE * Math.abs(golden));
}

async function values(tensor: Tensor): Promise<number[]> {
  return Array.from(await tensor.data(), Number);
}

/** Weights, running statistics and predictions after the last step. */
async function expectEnd(net: GoldenNet, model: Model, golden: GoldenCase): Promise<void> {
  const state = await model.stateDict();
  expectAllClose(await keep(state, golden.parameters), golden.parameters, () => WEIGHTS);
  expectAllClose(
    await keep(state, golden.statistics),
    golden.statistics,
    (expected) => RELATIVE * Math.max(1, largest(expected)),
  );
  expect(await values(state['bn1.num_batches_tracked'] as Tensor)).toEqual([golden.batchesTracked]);
  const logits = await values(await model.forward(net.batch(0, 'float64', golden.start).images));
  expectClose('logits', logits, golden.evalLogits, RELATIVE * largest(golden.evalLogits));
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
    expectRelative(`step ${index}: loss`, outcome.loss, expected.loss);
    expectPerturbed(index, outcome.perturbedLoss, expected);
  }
  return model;
}

function expectPerturbed(index: number, actual: number | null, expected: GoldenStep): void {
  if (expected.perturbedLoss === undefined) expect(actual).toBeNull();
  else expectRelative(`step ${index}: perturbed loss`, actual as number, expected.perturbedLoss);
}

/** Logits in both modes, loss and gradients from the start, with tolerances for the precision. */
async function expectStart(
  net: GoldenNet,
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
