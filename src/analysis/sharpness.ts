// Sharpness: how much the loss rises within a ball around the weights.

import type { DatasetSource } from '../dataset.js';
import type { Model } from '../model.js';
import { type SharpnessMeasureOptions, sharpnessSchema } from '../options/analysis.js';
import { dataOf, type MeasureControl, measure, metricOf } from './measure.js';

/** Sharpness at each radius. */
export interface Sharpness {
  /** At the model's own weights, mean over the images. */
  loss: number;
  /** At the model's own weights. */
  accuracy: number;
  /** Images. */
  count: number;
  /** norm_q(T_w g), 1/p + 1/q = 1: the first-order sharpness over a radius of 1; null for m-sharpness and random points. */
  slope: number | null;
  /** Numbers that are perturbed. */
  parameters: number;
  /** norm2 of them. */
  weightNorm: number;
  /** In the order of `rho`. Their accuracies over their radii are the curve of the parameter attack. */
  points: SharpnessPoint[];
}

/** Sharpness at one radius. */
export interface SharpnessPoint {
  rho: number;
  /** Loss at the point that was found minus loss at w; the mean over groups or draws where there are several. */
  sharpness: number;
  /** At that point. */
  loss: number;
  /** At that point. */
  accuracy: number;
  /** norm_p of T_w^-1 eps: its distance from w. */
  norm: number;
  /** Loss minus loss at w along the ascent that found it; of random points, draw by draw. */
  curve: number[];
  /** How the rise differs between parts; `sd` is the sample standard deviation, null for a single part. */
  spread: { over: 'batches' | 'groups' | 'draws'; count: number; sd: number | null; min: number; max: number };
}

/**
 * Measures max L(w + eps) - L(w) over norm_p(T_w^-1 eps) <= rho (Foret 2021, equation 1; Kwon 2021, definition 2), T_w fixed at w:
 * by projected gradient ascent, by its first-order solution, or the mean over random eps of that norm. Batch norm uses its
 * running statistics. An ascent finds a lower bound of the maximum.
 */
export function sharpness(
  model: Model,
  dataset: DatasetSource,
  options: SharpnessMeasureOptions & MeasureControl = {},
): Promise<Sharpness> {
  return measure('sharpness', { model, dataset, options }, sharpnessSchema, async (analysis, subject) => {
    const { method, rho, p, steps, stepSize, restarts, draws, m, seed } = subject.options;
    const search = { method, rho, steps, stepSize, restarts, draws, seed, ...(m !== undefined && { m }) };
    const ball = { ...metricOf(subject.options), p };
    const settings = { ...search, ball, data: dataOf(subject.options) };
    return (await analysis.sharpness(subject.model, subject.dataset, settings)) as Sharpness;
  });
}
