// The presets of SAM and ASAM: which rules each published implementation follows.
// One table, so that documentation, command line and optimizers cannot disagree.

/** The rules of one sharpness-aware optimizer, all settled. */
export interface SharpnessRules {
  /** Radius of the neighbourhood. */
  rho: number;
  /** Added to |w| in the scale of the adaptive parameters. */
  eta: number;
  /** The normalisation operator T_w: none (SAM), |w| per element, or the norm of each convolution filter. */
  scale: 'none' | 'element' | 'filter';
  /** Which parameters are scaled: weights (not biases, not beta), all, or those with "weight" in their name. */
  adaptive: 'weights' | 'all' | 'names';
  /** Added to the norm of the gradient; 0 treats a zero gradient as "no perturbation". */
  guard: number;
  /** Passes that update batch norm's running statistics. */
  batchNorm: 'first' | 'both';
  /** How the descent step returns to w: bit for bit, or by subtracting the perturbation as some implementations do. */
  restore: 'exact' | 'subtract';
}

const paper: SharpnessRules = {
  rho: 0.5,
  eta: 0.01,
  scale: 'element',
  adaptive: 'weights',
  guard: 1e-16,
  batchNorm: 'first',
  restore: 'exact',
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
} as const satisfies Record<string, SharpnessRules>;

export type AsamPreset = keyof typeof asamPresets;
export type SamPreset = keyof typeof samPresets;
