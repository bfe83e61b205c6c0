// The presets of SAM and ASAM: which rules each published implementation follows.
// One table, so that documentation, command line and optimizers cannot disagree.

import type { Clip, Decay } from './groups.js';
import type { Variant } from './variants.js';

/** The rules of one sharpness-aware optimizer, all settled. */
export interface SharpnessRules {
  /** Radius of the neighbourhood. */
  rho: number;
  /** Added to |w| in the scale of the adaptive parameters. */
  eta: number;
  /** The normalisation operator T_w: none (SAM), |w| per element, or the norm of each convolution filter. */
  scale: 'none' | 'element' | 'filter';
  /** With scale `filter`: whether rows of linear weights count as filters. */
  linearFilters: boolean;
  /** Which parameters are scaled: weights (not biases, not beta), all, or those with "weight" in their name. */
  adaptive: 'weights' | 'all' | 'names';
  /** Which parameters are perturbed: all, or gamma and beta of the normalisation layers. */
  perturb: 'all' | 'norms';
  /** p of the ball norm_p(T_w^-1 eps) <= rho. */
  p: number | 'inf';
  /** Added to the norm of the gradient; 0 treats a zero gradient as "no perturbation". */
  guard: number;
  /** Passes that update batch norm's running statistics; `frozen`: none, and both passes normalise with them. */
  batchNorm: 'first' | 'both' | 'frozen';
  /** Whether both passes draw the same masks of dropout. */
  masks: 'shared' | 'fresh';
  /** The pass whose loss and accuracy are reported. */
  metrics: 'first' | 'second';
  /** How the descent step returns to w: bit for bit, or by subtracting the perturbation as some implementations do. */
  restore: 'exact' | 'subtract';
  /** Clipping of the gradient that the ascent follows. */
  clip: Clip | null;
  /** Ascent steps, each of length rho from where the one before has led. */
  innerSteps: number;
  /** Perturb at every so-manieth step; the others are plain steps of the base optimizer. */
  interval: number;
  /** Perturb with this probability, else make a plain step. */
  probability: number;
  /** Share of the batch that the ascent is made on. */
  ascentFraction: number;
  /** m of m-sharpness: one perturbation for each so many samples; null: one for the batch. */
  microBatch: number | null;
  /** Whether gradients of micro-batches are averaged or summed. */
  microBatchReduction: 'mean' | 'sum';
  /** Seed of what the optimizer itself draws. */
  seed: number;
  /** What is followed in the ascent and what the base optimizer gets. */
  variant: Variant;
}

/** What a published implementation settles of the base optimizer, unless its own options say otherwise. */
export interface BaseRules {
  decay?: Decay;
  clip?: Clip;
}

const paper: SharpnessRules = {
  rho: 0.5,
  eta: 0.01,
  scale: 'element',
  linearFilters: false,
  adaptive: 'weights',
  perturb: 'all',
  p: 2,
  guard: 1e-16,
  batchNorm: 'first',
  masks: 'shared',
  metrics: 'first',
  restore: 'exact',
  clip: null,
  innerSteps: 1,
  interval: 1,
  probability: 1,
  ascentFraction: 1,
  microBatch: null,
  microBatchReduction: 'mean',
  seed: 0,
  variant: { type: 'sam' },
};

/** Presets of {@link ASAM}. */
export const asamPresets = {
  /** Kwon et al. 2021, "ASAM", Algorithm 1 and section 5: T_w = |w| + 0.01 on weights, identity on biases. */
  paper,
  /** The exactly scale-invariant reading (eta 0, |w| on every parameter); for measures and property tests. */
  invariant: { ...paper, adaptive: 'all', eta: 0, guard: 0 },
  /** github.com/SamsungLabs/ASAM, class defaults: scaled by parameter name, statistics updated in both passes. */
  samsung: { ...paper, adaptive: 'names', batchNorm: 'both', restore: 'subtract' },
  /** The example script of github.com/SamsungLabs/ASAM, which runs with eta 0. */
  'samsung-example': { ...paper, adaptive: 'names', batchNorm: 'both', restore: 'subtract', eta: 0 },
  /** github.com/davda54/sam with `adaptive=True`: its rho is not interchangeable with samsung's. */
  davda54: { ...paper, adaptive: 'all', eta: 0, guard: 1e-12, rho: 0.05 },
  /** The Python package pytorch_optimizer, SAM with `adaptive=True`: as davda54. */
  pytorch_optimizer: { ...paper, adaptive: 'all', eta: 0, guard: 1e-12, rho: 0.05 },
} as const satisfies Record<string, SharpnessRules>;

const plain: SharpnessRules = { ...paper, scale: 'none', eta: 0, rho: 0.05 };

/** Presets of {@link SAM}. */
export const samPresets = {
  /** Foret et al. 2021, "Sharpness-Aware Minimization", Algorithm 1; a zero gradient perturbs nothing. */
  paper: plain,
  /** github.com/SamsungLabs/ASAM, class SAM: default rho 0.5, statistics updated in both passes. */
  samsung: { ...plain, rho: 0.5, batchNorm: 'both', restore: 'subtract' },
  /** github.com/davda54/sam with `adaptive=False`. */
  davda54: { ...plain, guard: 1e-12 },
  /**
   * github.com/google-research/sam: weight decay is a penalty in the loss of both passes, the final gradient is clipped at norm 5,
   * metrics are those of the second pass. (There a zero gradient gives NaN; here no perturbation.)
   */
  google: { ...plain, guard: 0, metrics: 'second' },
  /** optax.contrib.sam; its sync_period k is innerSteps k - 1. */
  optax: { ...plain, guard: 0 },
  /** Keras's SharpnessAwareMinimization; its num_batch_splits is a microBatch of that share, and gradients are summed. */
  keras: { ...plain, guard: 1e-12, microBatchReduction: 'sum' },
  /** The Python package pytorch_optimizer, SAM with `adaptive=False`: as davda54. */
  pytorch_optimizer: { ...plain, guard: 1e-12 },
} as const satisfies Record<string, SharpnessRules>;

export type AsamPreset = keyof typeof asamPresets;
export type SamPreset = keyof typeof samPresets;

/** What presets settle of the base optimizer. */
export const presetBases: Partial<Record<AsamPreset | SamPreset, BaseRules>> = {
  google: { decay: 'loss', clip: { norm: 5, guard: 0 } },
};

/** SAM's rules, which the variants start from. */
export const plainRules: SharpnessRules = plain;
