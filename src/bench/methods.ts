// The optimizers that the benches time, each with the setting that its cost is told for. Around SGD with momentum, as the
// papers have it.
import {
  asamRules,
  asamSchema,
  type SharpnessRules,
  samRules,
  samSchema,
  sgdSchema,
  type Variant,
  variantRules,
} from '../options/index.js';

const sam = (options: object = {}) => samRules(samSchema.parse(options));
const asam = (options: object = {}) => asamRules(asamSchema.parse(options));
const variant = (kind: Variant, options: object = {}) => variantRules(options, kind);

const rules = {
  sgd: () => null,
  sam: () => sam(),
  asam: () => asam(),
  'asam-filter': () => asam({ scale: 'filter' }),
  'asam-p4': () => asam({ p: 4 }),
  gsam: () => variant({ type: 'gsam', alpha: 0.4 }),
  wsam: () => variant({ type: 'wsam', c: 0.9, coupled: false }),
  fsam: () => variant({ type: 'fsam', sigma: 1, lambda: 0.9 }),
  esam: () => variant({ type: 'esam', beta: 0.6, gamma: 0.5, mask: 'element' }),
  'every-10': () => sam({ interval: 10 }),
  'quarter-batch': () => sam({ ascentFraction: 0.25 }),
  samon: () => variant({ type: 'sam' }, { perturb: 'norms' }),
  msam: () => variant({ type: 'msam' }),
  'looksam-5': () => variant({ type: 'looksam', alpha: 0.7, interval: 5 }),
  'rst-half': () => sam({ probability: 0.5 }),
  'grst-half': () => variant({ type: 'grst', c: null }, { probability: 0.5 }),
  random: () => variant({ type: 'random' }),
  extragradient: () => variant({ type: 'extragradient' }),
} satisfies Record<string, () => SharpnessRules | null>;

/** A name in the table above. */
export type Method = keyof typeof rules;

export const METHODS = Object.keys(rules) as [Method, ...Method[]];

/**
 * What the addon's bench makes the optimizer from. At a larger learning rate a few synthetic images are soon learnt by heart, and
 * gradients too small for float32 are timed.
 */
export function optimizerConfig(method: Method): object {
  const { decay: _, clip: __, groups: ___, ...sgd } = sgdSchema.parse({ lr: 1e-4, momentum: 0.9, weightDecay: 5e-4 });
  return { base: { type: 'sgd', ...sgd }, sharpness: rules[method]() };
}

/** Arrays of the size of the parameters that an update reads and writes at least, when each is touched once a pass. */
export interface Traffic {
  readonly ascent: number;
  readonly descent: number;
}

// The norm pass of a gradient reads it; a step of SGD with momentum reads and writes weights and momentum, and reads the gradient.
const NORM = 1;
const DESCENT = NORM + 5;

/** Those whose traffic is counted: norm pass, then weights, gradient and working weights. T_w needs the weights in both. */
export const TRAFFIC: Partial<Record<Method, Traffic>> = {
  sam: { ascent: NORM + 3, descent: DESCENT },
  asam: { ascent: NORM + 1 + 3, descent: DESCENT },
  'asam-filter': { ascent: NORM + 1 + 3, descent: DESCENT },
};
