// Comparisons with golden values: what a test of flatmin's numbers asks of tensors, losses and the end of a run.

import { expect } from 'vitest';
import type { Model, StepInfo, Tensor } from '../../src/index.js';
import { type GoldenNet, type Kept, keep, numbers } from './golden.js';

/** Largest distance of a weight after three steps. */
export const WEIGHTS = 1e-10;
/** Largest relative distance of losses, gradients, statistics and logits. */
export const RELATIVE = 1e-9;

export const largest = (values: readonly number[]): number => Math.max(...values.map(Math.abs));

/** Fails when one of some numbers is farther than `tolerance` from the golden one. */
export function expectClose(
  what: string,
  actual: readonly number[],
  golden: readonly number[],
  tolerance: number,
): void {
  expect(actual.length, `${what}: count`).toBe(golden.length);
  const distances = golden.map((value, i) => Math.abs((actual[i] as number) - value));
  const finite = distances.every(Number.isFinite);
  expect(finite ? largest(distances) : Number.NaN, `${what}: farthest from its golden value`).toBeLessThanOrEqual(
    tolerance,
  );
}

/** The same for every tensor of a record. */
export function expectAllClose(
  actual: Record<string, Kept>,
  golden: Record<string, Kept>,
  tolerance: (golden: number[]) => number,
): void {
  for (const [name, kept] of Object.entries(golden)) {
    const expected = numbers(kept);
    expectClose(name, numbers(actual[name] as Kept), expected, tolerance(expected));
  }
}

export function expectRelative(what: string, actual: number, golden: number): void {
  expectClose(what, [actual], [golden], RELATIVE * Math.abs(golden));
}

export async function values(tensor: Tensor): Promise<number[]> {
  return Array.from(await tensor.data(), Number);
}

/** The losses of a whole step; null in the golden means that flatmin must not tell one either, undefined that it may. */
export function expectLosses(
  step: number,
  actual: Pick<StepInfo, 'loss' | 'perturbedLoss'>,
  golden: { loss?: number; perturbedLoss?: number | null | undefined },
): void {
  if (golden.loss !== undefined) expectRelative(`step ${step}: loss`, actual.loss, golden.loss);
  if (golden.perturbedLoss === null) expect(actual.perturbedLoss, `step ${step}: perturbed loss`).toBeNull();
  else if (golden.perturbedLoss !== undefined)
    expectRelative(`step ${step}: perturbed loss`, actual.perturbedLoss as number, golden.perturbedLoss);
}

/** What a golden file holds of the end of a run. */
export interface GoldenEnd {
  start?: 'plain' | 'confident';
  parameters: Record<string, Kept>;
  statistics: Record<string, Kept>;
  /** Batches that batch norm has counted; left out where the reference counts otherwise. */
  batchesTracked?: number;
  evalLogits: Kept;
}

/** Weights, running statistics and predictions after the last step. */
export async function expectEnd(net: GoldenNet, model: Model, golden: GoldenEnd): Promise<void> {
  const state = await model.stateDict();
  expectAllClose(await keep(state, golden.parameters), golden.parameters, () => WEIGHTS);
  expectAllClose(
    await keep(state, golden.statistics),
    golden.statistics,
    (expected) => RELATIVE * Math.max(1, largest(expected)),
  );
  if (golden.batchesTracked !== undefined)
    expect(await values(state['bn1.num_batches_tracked'] as Tensor)).toEqual([golden.batchesTracked]);
  const logits = { logits: await model.forward(net.batch(0, 'float64', golden.start).images) };
  const expected = { logits: golden.evalLogits };
  expectAllClose(await keep(logits, expected), expected, (numbers) => RELATIVE * largest(numbers));
}
