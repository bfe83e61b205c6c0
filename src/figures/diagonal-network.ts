// What SAM prefers among the solutions of a diagonal linear network, f(x) = <u^2 - v^2, x>: with fewer samples than inputs
// many fit exactly. 1-SAM, which perturbs for each sample alone, ends nearer to the sparse one than descent and n-SAM, which
// perturbs for the whole set (Andriushchenko and Flammarion 2022, section 3.2; the perturbation is rho times the gradient).
import * as Plot from '@observablehq/plot';
import { randomLcg, randomNormal } from 'd3-random';
import { deviation, mean } from '../report/statistics.js';
import { defineFigure } from './figure.js';
import { colours } from './style.js';

const INPUTS = 30;
const SAMPLES = 20;
/** Inputs that matter, each with coefficient 1. */
const RELEVANT = 3;
/** All weights start here, so that the first function is 0. */
const ALPHA = 0.1;
const RHO = 0.1;
const LR = 0.02;
const STEPS = 20_000;
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const RECORDS = 50;

const methods = ['GD', 'n-SAM', '1-SAM'] as const;
type Method = (typeof methods)[number];

/** A regression task with Gaussian inputs and a sparse truth. */
class Task {
  readonly x: readonly Float64Array[];
  readonly y: Float64Array;

  constructor(seed: number) {
    // The generator's first numbers are close together for whole seeds.
    const normal = randomNormal.source(randomLcg(seed / (SEEDS.length + 1)))();
    this.x = Array.from({ length: SAMPLES }, () => Float64Array.from({ length: INPUTS }, () => normal()));
    this.y = Float64Array.from(this.x, (row) => row.slice(0, RELEVANT).reduce((sum, value) => sum + value, 0));
  }
}

/** u and v of the network, and what they stand for. Its loops are the whole cost of the figure. */
class Network {
  readonly u = new Float64Array(INPUTS).fill(ALPHA);
  readonly v = new Float64Array(INPUTS).fill(ALPHA);

  coefficient(input: number): number {
    return (this.u[input] ?? 0) ** 2 - (this.v[input] ?? 0) ** 2;
  }

  residual(row: Float64Array, y: number): number {
    let sum = -y;
    for (let input = 0; input < INPUTS; input += 1) sum += (row[input] ?? 0) * this.coefficient(input);
    return sum;
  }

  /** Squared error per sample, over 4. */
  loss(task: Task): number {
    return residuals(this, task).reduce((sum, r) => sum + r * r, 0) / (4 * SAMPLES);
  }

  /** Expected squared error on new inputs, which is the squared distance to the truth. */
  testError(): number {
    return this.coefficients().reduce((sum, value, input) => sum + (value - (input < RELEVANT ? 1 : 0)) ** 2, 0);
  }

  coefficients(): number[] {
    return Array.from(this.u, (_, input) => this.coefficient(input));
  }

  /** Adds `rate` times the gradient, at `at`, of a sample's loss with residual `r`. */
  move(row: Float64Array, r: number, rate: number, at: Network): void {
    for (let input = 0; input < INPUTS; input += 1) {
      const slope = rate * r * (row[input] ?? 0);
      this.u[input] = (this.u[input] ?? 0) + slope * (at.u[input] ?? 0);
      this.v[input] = (this.v[input] ?? 0) - slope * (at.v[input] ?? 0);
    }
  }

  set(other: Network): void {
    this.u.set(other.u);
    this.v.set(other.v);
  }
}

const residuals = (network: Network, { x, y }: Task) => x.map((row, sample) => network.residual(row, y[sample] ?? 0));

/** Adds `rate` times the gradient of the mean loss of all samples, at `at`. */
function moveAll(network: Network, task: Task, rate: number, at: Network): void {
  const r = residuals(at, task);
  for (const [sample, row] of task.x.entries()) network.move(row, r[sample] ?? 0, rate / SAMPLES, at);
}

/** The weights after one step of gradient descent, on the whole set, of the loss at perturbed weights. */
function update(w: Network, task: Task, method: Method, perturbed: Network, next: Network): void {
  next.set(w);
  perturbed.set(w);
  if (method !== '1-SAM') {
    if (method === 'n-SAM') moveAll(perturbed, task, RHO, w);
    moveAll(next, task, -LR, perturbed);
    return;
  }
  for (const [sample, row] of task.x.entries()) {
    const y = task.y[sample] ?? 0;
    perturbed.set(w);
    perturbed.move(row, w.residual(row, y), RHO, w);
    next.move(row, perturbed.residual(row, y), -LR / SAMPLES, perturbed);
  }
}

/** One run. */
export interface SparseRun {
  readonly seed: number;
  readonly method: Method;
  readonly trainLoss: number;
  readonly testError: number;
  /** Sum of the absolute coefficients; 3 for the truth. */
  readonly norm1: number;
  readonly coefficients: readonly number[];
  readonly curve: readonly { readonly step: number; readonly trainLoss: number; readonly testError: number }[];
}

function train(seed: number, method: Method): SparseRun {
  const task = new Task(seed);
  let [network, next] = [new Network(), new Network()];
  const perturbed = new Network();
  const curve = [];
  for (let step = 0; step < STEPS; step += 1) {
    update(network, task, method, perturbed, next);
    [network, next] = [next, network];
    if (recorded.has(step + 1))
      curve.push({ step: step + 1, trainLoss: network.loss(task), testError: network.testError() });
  }
  const coefficients = network.coefficients();
  const norm1 = coefficients.reduce((sum, value) => sum + Math.abs(value), 0);
  return { seed, method, trainLoss: network.loss(task), testError: network.testError(), norm1, coefficients, curve };
}

/** Steps at equal distances on a logarithmic scale, from 10 on. */
const recorded = new Set(
  Array.from({ length: RECORDS }, (_, index) => Math.round(10 * (STEPS / 10) ** (index / (RECORDS - 1)))),
);

/** Mean over the seeds at each recorded step. */
function meanCurve(runs: readonly SparseRun[], method: Method, value: 'trainLoss' | 'testError') {
  const own = runs.filter((run) => run.method === method);
  return (own[0]?.curve ?? []).map(({ step }, index): [number, number] => [
    step,
    mean(own.flatMap(({ curve }) => curve[index]?.[value] ?? [])),
  ]);
}

const stroke: Readonly<Record<Method, string>> = { GD: colours.sgd, 'n-SAM': colours.sam, '1-SAM': colours.asam };

export const diagonalNetworkFigure = defineFigure({
  name: 'diagonal-network',
  summary: '1-SAM finds sparser solutions of a diagonal linear network than descent',
  compute: () => ({
    ...{ inputs: INPUTS, samples: SAMPLES, relevant: RELEVANT, alpha: ALPHA, rho: RHO, lr: LR, steps: STEPS },
    runs: SEEDS.flatMap((seed) => methods.map((method) => train(seed, method))),
  }),
  draw({ runs }) {
    const of = (method: Method) => runs.filter((run) => run.method === method);
    const results = methods.map((method) => {
      const errors = of(method).map(({ testError }) => testError);
      return `${method} ${mean(errors).toFixed(3)} ± ${(deviation(errors) ?? 0).toFixed(3)}`;
    });
    const worst = Math.max(...methods.map((method) => mean(of(method).map(({ trainLoss }) => trainLoss))));
    const better = of('1-SAM').filter(
      ({ testError }, index) => testError < (of('GD')[index]?.testError ?? Number.NaN),
    ).length;
    const size = { width: 400, height: 340, grid: true };
    const x = { type: 'log' as const, label: 'step', ticks: [10, 100, 1000, 10_000], tickFormat: ',d' };
    const lines = (value: 'trainLoss' | 'testError') =>
      methods.map((method) => Plot.line(meanCurve(runs, method, value), { stroke: stroke[method], strokeWidth: 2.4 }));
    return {
      title: 'Diagonal linear network: what SAM prefers',
      caption: `${INPUTS} inputs, ${SAMPLES} samples, ${RELEVANT} coefficients of 1 and the others 0. All methods fit the samples (mean training loss ${worst.toExponential(1)} at most); test error at the end, mean and deviation over ${SEEDS.length} seeds: ${results.join(', ')}. 1-SAM is better than GD for ${better} of ${SEEDS.length} seeds. rho = ${RHO}.`,
      legend: methods.map((method) => ({ label: method, colour: stroke[method] })),
      panels: [
        {
          title: 'training loss, mean over seeds',
          plot: {
            ...size,
            x,
            y: { type: 'log', label: 'loss', tickFormat: '.0e', ticks: 5 },
            marks: lines('trainLoss'),
            marginLeft: 60,
          },
        },
        {
          title: 'test error, mean over seeds',
          plot: {
            ...size,
            x,
            y: { label: 'squared distance to the truth', domain: [0, 3], nice: true },
            marks: lines('testError'),
          },
        },
        {
          title: 'test error of each seed',
          plot: {
            ...{ ...size, width: 340, x: { type: 'point', domain: methods, label: null } },
            y: { label: 'squared distance to the truth', nice: true, zero: true },
            marks: [
              Plot.line(runs, { x: 'method', y: 'testError', z: 'seed', stroke: colours.line, strokeWidth: 1.6 }),
              Plot.dot(runs, { x: 'method', y: 'testError', fill: ({ method }: SparseRun) => stroke[method], r: 4.5 }),
            ],
            color: { type: 'identity' },
          },
        },
      ],
    };
  },
});
