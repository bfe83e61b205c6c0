// Options of measures of flatness: the ball or metric, how it is searched, and the images that are looked at.
// By default a metric is the exactly scale-invariant one: |w| on every parameter, eta 0.

import { z } from 'zod';
import { nonNegative, positiveInteger, seed, wholeNumber } from './fields.js';
import { evaluateSchema } from './trainer.js';

const positive = z.number().gt(0);

const imagesFields = {
  batchSize: evaluateSchema.shape.batchSize,
  loss: evaluateSchema.shape.loss,
  limit: positiveInteger.optional().describe('Look at the first images only'),
};

const metricFields = {
  scale: z
    .enum(['none', 'element', 'filter'])
    .default('none')
    .describe('Metric: none, |w| + eta of each element, or the norm + eta of each convolution filter'),
  eta: nonNegative.default(0).describe('Added to |w| in the metric'),
  adaptive: z
    .enum(['all', 'weights', 'names'])
    .default('all')
    .describe('Parameters that the metric scales: all, weights (not biases), or those with "weight" in their name'),
  linearFilters: z.boolean().default(false).describe('With scale filter: take rows of linear weights as filters, too'),
  perturb: z
    .enum(['all', 'norms'])
    .default('all')
    .describe('Parameters that move: all, or gamma and beta of the normalisation layers'),
};

const drawSeed = seed.describe('Seed of everything that is drawn');

/** Options of `analysis.sharpness`. */
export const sharpnessSchema = z.strictObject({
  method: z
    .enum(['ascent', 'oneStep', 'random'])
    .default('ascent')
    .describe("Worst point by projected gradient ascent, SAM's one step, or the mean over random points"),
  rho: z
    .union([positive, z.array(positive).min(1)])
    .default([0.05])
    .transform((rho) => [rho].flat())
    .describe('Radii of the ball'),
  ...metricFields,
  p: z
    .union([z.number().gt(1), z.enum(['inf'])])
    .default(2)
    .describe("Norm of the ball: a number above 1, or 'inf'"),
  steps: positiveInteger.default(20).describe('Steps of each ascent'),
  stepSize: positive.default(0.5).describe('Length of a step as a share of the radius'),
  restarts: wholeNumber
    .default(1)
    .describe('Ascents from random points beside the one from w; at a minimum only these leave it'),
  draws: positiveInteger.default(20).describe('Points that method random draws'),
  m: positiveInteger
    .optional()
    .describe('m-sharpness: the mean over groups of so many images (default: all images together)'),
  seed: drawSeed,
  ...imagesFields,
});

const densitySchema = z.strictObject({
  probes: positiveInteger.default(4).describe('Random starts'),
  steps: positiveInteger.default(60).describe('Lanczos steps of each'),
  points: positiveInteger.default(256).describe('Points of the curve'),
  sigma: positive.optional().describe('Width of the Gaussians (default: a hundredth of the range of eigenvalues)'),
});

/** Options of `analysis.hessian`. */
export const hessianSchema = z.strictObject({
  topK: wholeNumber.default(1).describe('Largest eigenvalues; 0: none'),
  iterations: positiveInteger.default(100).describe('At most so many Lanczos steps for them'),
  tolerance: positive
    .default(1e-4)
    .describe('Largest residual norm2(Hx - lambda x) of an eigenvalue, as a share of the largest one'),
  vectors: z.boolean().default(false).describe('Give the eigenvectors, too'),
  traceProbes: wholeNumber.default(0).describe('Products with the Hessian that the trace may cost; 0: no trace'),
  density: z
    .union([z.boolean(), densitySchema])
    .default(false)
    .describe('Spectral density by stochastic Lanczos quadrature'),
  ...metricFields,
  seed: drawSeed,
  ...imagesFields,
});

const range = (from: number, to: number) =>
  z
    .tuple([z.number(), z.number()])
    .refine(([low, high]) => low < high, 'two numbers, the lower one first')
    .default([from, to]);

const gridPoints = z.int().min(2);

/** Options of `analysis.interpolation`. */
export const interpolationSchema = z.strictObject({
  range: range(-0.5, 1.5).describe('Range of t: 0 is the model, 1 the other one'),
  points: gridPoints.default(25).describe('Points of the line'),
  ...imagesFields,
});

/** Options of `analysis.surface`. */
export const surfaceSchema = z.strictObject({
  range: range(-1, 1).describe('Range of both axes; 1 is a direction as long as the weights, filter by filter'),
  points: gridPoints.default(21).describe('Points of each axis'),
  seed: drawSeed,
  ...imagesFields,
});

/** Options of `analysis.trajectory`. */
export const trajectorySchema = z.strictObject({
  points: z
    .union([z.literal(0), gridPoints])
    .default(21)
    .describe('Points of each axis of the surface below the path; 0: no surface'),
  margin: nonNegative.default(0.2).describe('How far the surface goes beyond the path, as a share of its extent'),
  ...imagesFields,
});

/** Options of `analysis.allLayerMargin`. */
export const allLayerMarginSchema = z.strictObject({
  steps: positiveInteger.default(20).describe('Steps of the search for the nearest wrong answer'),
  batchSize: evaluateSchema.shape.batchSize,
  limit: imagesFields.limit,
});

export type SharpnessMeasureOptions = z.input<typeof sharpnessSchema>;
export type HessianOptions = z.input<typeof hessianSchema>;
export type InterpolationOptions = z.input<typeof interpolationSchema>;
export type SurfaceOptions = z.input<typeof surfaceSchema>;
export type TrajectoryOptions = z.input<typeof trajectorySchema>;
export type AllLayerMarginOptions = z.input<typeof allLayerMarginSchema>;
