// SAM, ASAM and their variants: wrappers that make a base optimizer seek flat minima by stepping with the gradient at w + eps.
// A step has two passes: backward, ascentStep (to w + eps), backward, descentStep (back to w, then the base optimizer's step).

import { call } from './call.js';
import { FlatminError } from './errors.js';
import { stepCounter } from './model.js';
import type { BindingOptimizer } from './native/binding.js';
import { Optimizer, type PassInfo, wrap } from './optimizer.js';
import { parseOptions } from './options/parse.js';
import { type BaseRules, presetBases, type SharpnessRules } from './options/presets.js';
import { type ASAMOptions, asamRules, asamSchema, type SAMOptions, samRules, samSchema } from './options/sharpness.js';

/** What an ascent step found. */
export interface AscentInfo extends PassInfo {
  /** Whether the step goes on with a backward pass at w + eps; without one, descentStep comes next. */
  secondPass: boolean;
}

/** What SAM and ASAM have in common. */
export abstract class SharpnessAware extends Optimizer {
  /** The rules in force: the preset's, overridden by the options. `rho` is the first group's at creation. */
  readonly rules: Readonly<SharpnessRules>;

  /** @internal `baseRules` hold where the base optimizer's own options say nothing. */
  constructor(base: Optimizer, wrapper: string, rules: SharpnessRules, baseRules: BaseRules = {}) {
    super(wrap(base, wrapper, rules, baseRules));
    this.rules = { ...rules };
  }

  /**
   * Whether the model stands at w before a step (`clean`), at w + eps (`perturbed`), or at w with all that the step needs (`ready`):
   * a step without a second pass.
   */
  get phase(): 'clean' | 'perturbed' | 'ready' {
    return this.nativeForStep('phase').phase;
  }

  /**
   * Moves the weights to w + eps, with the gradients of the first pass. When one is not finite, the weights stay and the descent
   * step will do nothing: the step is skipped. `secondPass` says whether a second backward pass is needed: not on the plain steps
   * of an `interval` or a `probability`. MSAM and RandomPerturbation perturb before the first pass.
   * @throws `ERR_FLATMIN_STEP_ORDER` without gradients, or when the weights are perturbed already.
   */
  async ascentStep(): Promise<AscentInfo> {
    const native = this.nativeForStep('ascentStep');
    const outcome = await call(() => native.ascentStep());
    stepCounter(this.model).secondPass();
    return outcome;
  }

  /**
   * Returns the weights to w, bit for bit, and steps the base optimizer with the gradients of the second pass.
   * @throws `ERR_FLATMIN_STEP_ORDER` without an ascent step before it, or without gradients.
   */
  async descentStep(): Promise<PassInfo> {
    const native = this.nativeForStep('descentStep');
    const outcome = await call(() => native.descentStep());
    stepCounter(this.model).nextStep();
    return outcome;
  }

  /** `step()` without a batch ends a step whose ascent is done. */
  protected override async finishStep(native: BindingOptimizer): Promise<PassInfo> {
    if (native.phase !== 'clean') return this.descentStep();
    throw new FlatminError(
      'ERR_FLATMIN_STEP_ORDER',
      `${this.constructor.name}.step: no ascent step was made; call model.backward, ascentStep, model.backward and then step or descentStep, or step(batch) for all of them`,
    );
  }
}

/**
 * Sharpness-Aware Minimization (Foret et al. 2021): eps = rho * g / ||g||, equation 2.
 * @example new SAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.05 })
 */
export class SAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: SAMOptions = {}) {
    const parsed = parseOptions(samSchema, options, 'SAM');
    super(base, 'SAM', samRules(parsed), presetBases[parsed.preset]);
  }
}

/**
 * Adaptive SAM (Kwon et al. 2021): eps = rho * T_w^2 g / ||T_w g||, equation 9, with T_w = |w| + eta for each weight or the norm
 * of each filter. Its rho is about ten times SAM's.
 * @example new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.5, eta: 0.01 })
 */
export class ASAM extends SharpnessAware {
  /** @throws `ERR_FLATMIN_OPTION`; `ERR_FLATMIN_STEP_ORDER` when the base optimizer has made steps. */
  constructor(base: Optimizer, options: ASAMOptions = {}) {
    const parsed = parseOptions(asamSchema, options, 'ASAM');
    super(base, 'ASAM', asamRules(parsed), presetBases[parsed.preset]);
  }
}
