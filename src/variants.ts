// The variants of SAM, each a class with its own options; with `scale: 'element'` or `'filter'` they take ASAM's ball.
// Below, g is the gradient at w, gs the one at w + eps, and G what the base optimizer gets. Formulas and sources: docs/optimizers.md.

import type { Optimizer } from './optimizer.js';
import { parseOptions } from './options/parse.js';
import {
  type ESAMOptions,
  type ExtragradientOptions,
  esamSchema,
  extragradientSchema,
  type FSAMOptions,
  fsamSchema,
  type GRSTOptions,
  type GSAMOptions,
  grstSchema,
  gsamSchema,
  type LookSAMOptions,
  lookSamSchema,
  type MSAMOptions,
  msamSchema,
  type RandomPerturbationOptions,
  type RSTOptions,
  randomPerturbationSchema,
  rstSchema,
  type SAMONOptions,
  samOnSchema,
  variantRules,
  type WSAMOptions,
  wsamSchema,
} from './options/sharpness.js';
import { SharpnessAware } from './sharpness-aware.js';

/**
 * Surrogate gap guided SAM (Zhuang et al. 2022): G = gs - alpha (g - (<g, gs> / ||gs||^2) gs).
 * Its rho falls with the learning rate: give the Trainer a `rhoSchedule` of type `lr`.
 * @example new GSAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.05, alpha: 0.4 })
 */
export class GSAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: GSAMOptions = {}) {
    const parsed = parseOptions(gsamSchema, options, 'GSAM');
    const { alpha } = parsed;
    super(base, 'GSAM', variantRules(parsed, { type: 'gsam', alpha }));
  }
}

/**
 * LookSAM (Liu et al. 2022): a second pass every `interval` steps keeps gv = gs - (<g, gs> / ||g||^2) g; between them
 * G = g + alpha (||g|| / ||gv||) gv.
 * @example new LookSAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { interval: 5 })
 */
export class LookSAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: LookSAMOptions = {}) {
    const parsed = parseOptions(lookSamSchema, options, 'LookSAM');
    const { alpha, interval, ...rules } = parsed;
    super(base, 'LookSAM', variantRules(rules, { type: 'looksam', alpha, interval }));
  }
}

/**
 * Efficient SAM (Du et al. 2022): a random share `beta` of the weights is perturbed, eps = m rho g / (beta ||g||), and the second
 * pass takes the share `gamma` of the samples whose loss has risen most. In a loop of your own, use `step(batch)`.
 * @example new ESAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { beta: 0.6, gamma: 0.5 })
 */
export class ESAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: ESAMOptions = {}) {
    const parsed = parseOptions(esamSchema, options, 'ESAM');
    const { beta, gamma, mask } = parsed;
    super(base, 'ESAM', variantRules(parsed, { type: 'esam', beta, gamma, mask }));
  }
}

/**
 * Randomized sharpness-aware training (Zhao et al. 2022): SAM with a probability, else a plain step.
 * @example new RST(new SGD(model, { lr: 0.1, momentum: 0.9 }), { probability: 0.5 })
 */
export class RST extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: RSTOptions = {}) {
    super(base, 'RST', variantRules(parseOptions(rstSchema, options, 'RST')));
  }
}

/**
 * RST with a weighted gradient (Zhao et al. 2022, G-RST): on steps with two passes G = (1 - c) g + c gs.
 * @example new GRST(new SGD(model, { lr: 0.1, momentum: 0.9 }), { probability: 0.5, c: 2 })
 */
export class GRST extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: GRSTOptions = {}) {
    const parsed = parseOptions(grstSchema, options, 'GRST');
    const { c } = parsed;
    super(base, 'GRST', variantRules(parsed, { type: 'grst', c }));
  }
}

/**
 * Weighted SAM (Yue et al. 2023): the sharpness is a regulariser of weight c / (1 - c). Decoupled, the base optimizer steps with g,
 * then w -= lr c / (1 - c) (gs - g); coupled, G = (1 - 2c) / (1 - c) g + c / (1 - c) gs, which is SAM for c = 0.5.
 * @example new WSAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { c: 0.9 })
 */
export class WSAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: WSAMOptions = {}) {
    const parsed = parseOptions(wsamSchema, options, 'WSAM');
    const { c, coupled } = parsed;
    super(base, 'WSAM', variantRules(parsed, { type: 'wsam', c, coupled }));
  }
}

/**
 * Friendly SAM (Li et al. 2024): the ascent follows d = g - sigma m, with m the running mean of past gradients.
 * @example new FSAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.2, lambda: 0.6 })
 */
export class FSAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: FSAMOptions = {}) {
    const parsed = parseOptions(fsamSchema, options, 'FSAM');
    const { sigma, lambda } = parsed;
    super(base, 'FSAM', variantRules(parsed, { type: 'fsam', sigma, lambda }));
  }
}

/**
 * Momentum SAM (Becker et al. 2024): eps = -rho v / ||v|| along the momentum v of SGD, so that a step needs one pass.
 * In a loop of your own: ascentStep, backward, descentStep.
 * @example new MSAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.3 })
 */
export class MSAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: MSAMOptions = {}) {
    super(base, 'MSAM', variantRules(parseOptions(msamSchema, options, 'MSAM'), { type: 'msam' }));
  }
}

/**
 * SAM on the normalisation layers only (Mueller et al. 2023): eps and its norm over their gamma and beta.
 * @example new SAMON(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.5 })
 */
export class SAMON extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: SAMONOptions = {}) {
    const parsed = parseOptions(samOnSchema, options, 'SAMON');
    super(base, 'SAMON', variantRules({ perturb: 'norms', ...parsed }));
  }
}

/**
 * A comparator: G is the gradient at w + rho T_w u / ||u|| with u ~ N(0, I). One pass.
 * In a loop of your own: ascentStep, backward, descentStep.
 * @example new RandomPerturbation(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.05 })
 */
export class RandomPerturbation extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: RandomPerturbationOptions = {}) {
    super(
      base,
      'RandomPerturbation',
      variantRules(parseOptions(randomPerturbationSchema, options, 'RandomPerturbation'), { type: 'random' }),
    );
  }
}

/**
 * The extragradient method (Korpelevich 1976), a comparator: G is the gradient at w - lr g.
 * @example new Extragradient(new SGD(model, { lr: 0.1, momentum: 0.9 }))
 */
export class Extragradient extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: ExtragradientOptions = {}) {
    super(
      base,
      'Extragradient',
      variantRules(parseOptions(extragradientSchema, options, 'Extragradient'), { type: 'extragradient' }),
    );
  }
}
