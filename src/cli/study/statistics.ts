// Rank correlation between a measure and the generalization gap, its granulated form, and bootstrap intervals of the
// difference between two measures (Jiang 2020, sections 4 and 5; Kwon 2021, section 3.2).
import { mean } from '../../report/statistics.js';
import { AXES, type Axis } from './plan.js';
import type { NetRecord } from './record.js';

/** A number of each net. */
export type Value = (net: NetRecord) => number;

/**
 * Kendall's tau-a: the mean over pairs of sign(mu_i - mu_j) sign(gap_i - gap_j), ties counting 0. A net that is there several times,
 * as in bootstrap samples, makes no pair with itself. NaN without a pair.
 */
export function kendallTau(nets: readonly NetRecord[], measure: Value, gap: Value): number {
  const ranked = nets.map((net) => ({ net, mu: measure(net), gap: gap(net) }));
  let [sum, pairs] = [0, 0];
  for (const [index, a] of ranked.entries())
    for (let other = 0; other < index; other += 1) {
      const b = ranked[other] as typeof a;
      if (a.net === b.net) continue;
      sum += Math.sign(a.mu - b.mu) * Math.sign(a.gap - b.gap);
      pairs += 1;
    }
  return sum / pairs;
}

/** Nets that differ along one axis alone. */
interface Cell {
  readonly axis: Axis;
  readonly nets: readonly NetRecord[];
}

/** The cells of an axis: all settings of the other axes and the seed. Those with a single net say nothing and are left out. */
export function cellsOf(nets: readonly NetRecord[], axis: Axis): Cell[] {
  const others = AXES.filter((other) => other !== axis);
  const cells = grouped(nets, ({ seed, point }) => [seed, ...others.map((other) => point[other])]);
  return cells.filter((found) => found.length > 1).map((found) => ({ axis, nets: found }));
}

/** Nets by what `key` says of them. */
export function grouped(nets: readonly NetRecord[], key: (net: NetRecord) => readonly number[]): NetRecord[][] {
  const groups = new Map<string, NetRecord[]>();
  for (const net of nets) {
    const name = key(net).join(' ');
    groups.set(name, [...(groups.get(name) ?? []), net]);
  }
  return [...groups.values()];
}

/** psi of each axis, the mean of tau over its cells, and Psi, their mean. Axes without a cell have none. */
export function granulated(cells: readonly Cell[], measure: Value, gap: Value) {
  const psi: Partial<Record<Axis, number>> = {};
  for (const axis of AXES) {
    const own = cells.filter((cell) => cell.axis === axis);
    if (own.length > 0) psi[axis] = mean(own.map((cell) => kendallTau(cell.nets, measure, gap)));
  }
  return { psi, Psi: mean(Object.values(psi)) };
}

/** A difference and the middle 95 % of its bootstrap samples. */
export interface Difference {
  readonly value: number;
  readonly interval: readonly [number, number];
}

/** Numbers in [0, 1) from a seed, the same on every machine: mulberry32. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

function resample<T>(items: readonly T[], random: () => number): T[] {
  return items.map(() => items[Math.floor(random() * items.length)] as T);
}

function middle(values: readonly number[]): [number, number] {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? Number.NaN;
  return [at(0.025), at(0.975)];
}

/** tau of `measure` minus tau of `other`; whole points of the grid are drawn, with all their seeds. */
export function tauDifference(
  nets: readonly NetRecord[],
  [measure, other, gap]: readonly [Value, Value, Value],
  resamples: number,
): Difference {
  const clusters = grouped(nets, ({ point }) => AXES.map((axis) => point[axis]));
  const random = randomNumbers(1);
  const difference = (sample: readonly NetRecord[]) =>
    kendallTau(sample, measure, gap) - kendallTau(sample, other, gap);
  const samples = Array.from({ length: resamples }, () => difference(resample(clusters, random).flat()));
  return { value: difference(nets), interval: middle(samples) };
}

/** Psi of `measure` minus Psi of `other`; cells are drawn, axis by axis. */
export function granulatedDifference(
  nets: readonly NetRecord[],
  [measure, other, gap]: readonly [Value, Value, Value],
  resamples: number,
): Difference {
  const byAxis = AXES.map((axis) => cellsOf(nets, axis));
  const random = randomNumbers(2);
  const difference = (cells: readonly Cell[]) =>
    granulated(cells, measure, gap).Psi - granulated(cells, other, gap).Psi;
  const samples = Array.from({ length: resamples }, () =>
    difference(byAxis.flatMap((cells) => resample(cells, random))),
  );
  return { value: difference(byAxis.flat()), interval: middle(samples) };
}
