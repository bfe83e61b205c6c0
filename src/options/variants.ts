// The variants of SAM: what each adds to SAM's options, its defaults and its source.
// One table, so that classes, command line and documentation cannot disagree.

import { z } from 'zod';
import { nonNegative, positiveInteger } from './fields.js';

const share = z.number().gt(0).max(1);

/** What is followed in the ascent and what the base optimizer gets, as the addon reads it. */
export type Variant =
  | { type: 'sam' | 'msam' | 'random' | 'extragradient' }
  | { type: 'gsam'; alpha: number }
  | { type: 'looksam'; alpha: number; interval: number }
  | { type: 'esam'; beta: number; gamma: number; mask: 'element' | 'tensor' }
  | { type: 'grst'; c: number | null }
  | { type: 'wsam'; c: number; coupled: boolean }
  | { type: 'fsam'; sigma: number; lambda: number };

/** Options of the variants beyond SAM's. */
export const variantFields = {
  gsam: {
    alpha: z.number().default(0.4).describe('Weight of the part of g that is orthogonal to the second gradient'),
  },
  looksam: {
    alpha: z.number().default(0.7).describe('Weight of the kept direction'),
    interval: positiveInteger.default(5).describe('Steps from one second pass to the next'),
  },
  esam: {
    beta: share.default(0.6).describe('Share of the weights that are perturbed'),
    gamma: share.default(0.5).describe('Share of the samples in the second pass: those whose loss rises most'),
    mask: z.enum(['element', 'tensor']).default('element').describe('Perturbed or not: each weight, or each tensor'),
  },
  rst: { probability: share.default(0.5).describe('Probability of a step with two passes') },
  grst: {
    probability: share.default(0.5).describe('Probability of a step with two passes'),
    c: z.number().nullable().default(null).describe('Weight of the second gradient (default: 1 / probability)'),
  },
  wsam: {
    c: z.number().min(0).lt(1).default(0.9).describe('Weight of the sharpness'),
    coupled: z.boolean().default(false).describe('Whether the sharpness goes through the base optimizer, too'),
  },
  fsam: {
    sigma: nonNegative.default(1).describe('Weight of the mean gradient that is taken out of the direction'),
    lambda: z.number().min(0).max(1).default(0.9).describe('Decay of the mean gradient'),
  },
} as const;
