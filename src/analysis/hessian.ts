// The Hessian of the loss: largest eigenvalues, trace and spectral density.

import type { DatasetSource } from '../dataset.js';
import type { Model, StateDict } from '../model.js';
import { type HessianOptions, hessianSchema } from '../options/analysis.js';
import { Tensor } from '../tensor.js';
import { dataOf, type MeasureControl, measure, metricOf } from './measure.js';

/** An eigenvalue with the norm of Hx - value x: a true eigenvalue is at most that far away. */
export interface Eigenvalue {
  value: number;
  residual: number;
}

/** What was computed of the Hessian. */
export interface Hessian {
  /** Numbers with respect to which the loss is differentiated. */
  dimensions: number;
  /** Images. */
  count: number;
  /** Largest first. */
  eigenvalues: Eigenvalue[];
  /** The lowest one that the same steps have found, less exact; null without eigenvalues. */
  smallest: Eigenvalue | null;
  /** Whether the largest ones are as exact as asked for. */
  converged: boolean;
  /** Lanczos steps made for them. */
  steps: number;
  /** By Hutch++ (Meyer 2021), or null. */
  trace: { value: number; standardError: number | null; probes: number } | null;
  /** Or null. */
  density: SpectralDensity | null;
  /** Eigenvectors of norm2 1, by parameter; empty unless asked for. */
  vectors: StateDict[];
}

/** The density of all eigenvalues, whose integral is 1. */
export interface SpectralDensity {
  eigenvalues: number[];
  density: number[];
  /** Width of the Gaussians that the nodes were smoothed with. */
  sigma: number;
  /** The quadrature itself: for each probe, its nodes and their weights. */
  nodes: number[][];
  weights: number[][];
  trace: number;
}

/**
 * Looks at the Hessian of the loss through its products with vectors: largest eigenvalues by Lanczos with full
 * reorthogonalisation, trace by Hutch++, spectral density by stochastic Lanczos quadrature (Ghorbani 2019). With a
 * `scale`, H is T_w H T_w: at a minimum, adaptive sharpness is rho^2 / 2 times its largest eigenvalue.
 */
export function hessian(
  model: Model,
  dataset: DatasetSource,
  options: HessianOptions & MeasureControl = {},
): Promise<Hessian> {
  return measure('hessian', { model, dataset, options }, hessianSchema, async (analysis, subject) => {
    const { topK, iterations, tolerance, vectors, traceProbes, density, seed } = subject.options;
    const settings = {
      ...{ topK, iterations, tolerance, vectors, traceProbes, seed },
      density: density === true ? {} : density === false ? null : density,
      ...{ ball: metricOf(subject.options), data: dataOf(subject.options) },
    };
    const found = await analysis.hessian(subject.model, subject.dataset, settings);
    const named = found.vectors.map((vector) =>
      Object.fromEntries(Object.entries(vector).map(([name, tensor]) => [name, new Tensor(tensor)])),
    );
    return { ...(found.report as Omit<Hessian, 'vectors'>), vectors: named };
  });
}
