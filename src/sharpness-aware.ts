// SAM and ASAM: wrappers that make a base optimizer seek flat minima by stepping with the gradient at w + eps.
// A step has two passes: backward, ascentStep (to w + eps), backward, descentStep (back to w, then the base optimizer's step).

import { call } from './call.js';
import { FlatminError } from './errors.js';
import { stepCounter } from './model.js';
import type { BindingOptimizer } from './native/binding.js';
import { Optimizer, type PassInfo, wrap } from './optimizer.js';
import { parseOptions } from './options/parse.js';
import type { SharpnessRules } from './options/presets.js';
import { type ASAMOptions, asamRules, asamSchema, type SAMOptions, samRules, samSchema } from './options/sharpness.js';

/** What SAM and ASAM have in common. */
export abstract class SharpnessAware extends Optimizer {
  /** The rules in force: the preset's, overridden by the options. `rho` is the first group's at creation. */
  readonly rules: Readonly<SharpnessRules>;

  /** @internal */
  constructor(base: Optimizer, wrapper: string, rules: SharpnessRules) {
    super(wrap(base, wrapper, rules));
    this.rules = { ...rules };
  }

  /** Whether the model stands at w (`clean`) or at w + eps (`perturbed`). */
  get phase(): 'clean' | 'perturbed' {
    return this.nativeForStep('phase').phase;
  }

  /**
   * Moves the weights to w + eps, with the gradients of the first pass. When one is not finite, the weights stay and the descent
   * step will do nothing: the step is skipped.
   * @throws `ERR_FLATMIN_STEP_ORDER` without gradients, or when the weights are perturbed already.
   */
  async ascentStep(): Promise<PassInfo> {
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
    super(base, 'SAM', samRules(parseOptions(samSchema, options, 'SAM')));
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
    super(base, 'ASAM', asamRules(parseOptions(asamSchema, options, 'ASAM')));
  }
}
