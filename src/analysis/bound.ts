// The PAC-Bayes bounds on the expected loss that SAM and ASAM are motivated by, with their terms and assumptions in the open.
// For nets of any size they are far above 1: what they show is which quantities enter.

import { z } from 'zod';
import { FlatminError } from '../errors.js';
import { nonNegative } from '../options/fields.js';
import { parseOptions } from '../options/parse.js';
import type { Sharpness, SharpnessPoint } from './sharpness.js';

const boundSchema = z.strictObject({
  delta: z.number().gt(0).lt(1).default(0.05).describe('The bound holds with probability 1 - delta'),
  eta: nonNegative.optional().describe("ASAM's eta, for points of a ball in the metric of T_w"),
});

/** Options of {@link pacBayesBound}. */
export type BoundOptions = z.input<typeof boundSchema>;

/** A bound and what it is made of. */
export interface PacBayesBound {
  rho: number;
  delta: number;
  /** Of the expected error; Infinity where a term is (ASAM with eta 0). */
  value: number;
  terms: {
    /** Error on the training set at the worst point that was found, times 1 - 1/sqrt n. */
    worstError: number;
    /** 1/sqrt n: for parameter noise beyond the ball. */
    tail: number;
    /** k/4 ln(1 + norm2(w)^2 / rho^2 (1 + sqrt(ln n / k))^2); ASAM: eta rho for rho. */
    divergence: number;
    /** 1/4 + ln(n / delta) + 2 ln(6 n + 3 k). */
    confidence: number;
    /** sqrt((divergence + confidence) / (n - 1)). */
    complexity: number;
  };
  assumptions: string[];
}

const SHARED = [
  'the loss lies in [0, 1]: it is the 0-1 error',
  'the n images are drawn independently from the distribution that the bound is about, and were the training set',
  'gaussian noise on the weights does not lower the expected error: L_D(w) <= E L_D(w + N(0, s^2 I))',
  'the maximum over the ball is replaced by the error at the point of highest loss that was found, a lower bound of it: so the value printed may lie below the true bound',
];

/**
 * With probability 1 - delta, L_D(w) <= (1 - 1/sqrt n) max L_S(w + eps) + 1/sqrt n + sqrt((divergence + confidence) / (n - 1)) (Foret
 * 2021, theorem 2 with its proof's constants; Kwon 2021, theorem 3, when `eta` is given: the form with eta rho was derived, not
 * read there).
 * @param measured What `analysis.sharpness` gave for the training set with p 2, without m.
 * @param point The radius to bound at; its first one if left out.
 */
export function pacBayesBound(
  measured: Sharpness,
  point: SharpnessPoint | undefined = measured.points[0],
  options: BoundOptions = {},
): PacBayesBound {
  const { delta, eta } = parseOptions(boundSchema, options, 'analysis.pacBayesBound');
  if (point === undefined || point.spread.over !== 'batches' || measured.count < 2)
    throw new FlatminError(
      'ERR_FLATMIN_OPTION',
      `analysis.pacBayesBound: found a measure over ${point?.spread.over ?? 'no points'} of ${measured.count} images, expected the worst case over all images together, two or more`,
    );
  const { count: n, parameters: k, weightNorm } = measured;
  const radius = eta === undefined ? point.rho : eta * point.rho;
  const ratio = (weightNorm / radius) ** 2 * (1 + Math.sqrt(Math.log(n) / k)) ** 2;
  const divergence = (k / 4) * Math.log1p(ratio);
  const confidence = 1 / 4 + Math.log(n / delta) + 2 * Math.log(6 * n + 3 * k);
  const complexity = Math.sqrt((divergence + confidence) / (n - 1));
  const tail = 1 / Math.sqrt(n);
  const worstError = (1 - tail) * (1 - point.accuracy);
  return {
    ...{ rho: point.rho, delta, value: worstError + tail + complexity },
    terms: { worstError, tail, divergence, confidence, complexity },
    assumptions:
      eta === undefined
        ? SHARED
        : [...SHARED, 'eta is above 0: T_w is at least eta, so the adaptive ball holds a plain one of radius eta rho'],
  };
}
