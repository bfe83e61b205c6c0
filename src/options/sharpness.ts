// Options of SAM, ASAM and the variants: a preset settles every rule, and each rule can be set on its own.
// The defaults shown by help and documentation are those of the preset `paper`.

import { z } from 'zod';
import { nonNegative, positiveInteger, wholeNumber } from './fields.js';
import { clipSchema } from './groups.js';
import {
  type AsamPreset,
  asamPresets,
  plainRules,
  type SamPreset,
  type SharpnessRules,
  samPresets,
} from './presets.js';
import { type Variant, variantFields } from './variants.js';

const share = z.number().gt(0).max(1);

const rulesOfAll = {
  perturb: z
    .enum(['all', 'norms'])
    .optional()
    .describe('Perturbed parameters: all, or gamma and beta of the normalisation layers (default: all)'),
  p: z
    .union([z.number().gt(1), z.enum(['inf'])])
    .optional()
    .describe("Norm of the ball: a number above 1, or 'inf' (default: 2)"),
  guard: nonNegative.optional().describe("Added to the norm of the gradient (default: the preset's; paper: 1e-16)"),
  batchNorm: z
    .enum(['first', 'both', 'frozen'])
    .optional()
    .describe("Passes that update batch norm's running statistics (default: the preset's; paper: first)"),
  masks: z
    .enum(['shared', 'fresh'])
    .optional()
    .describe('Masks of dropout in the second pass: those of the first, or new ones (default: shared)'),
  metrics: z
    .enum(['first', 'second'])
    .optional()
    .describe("Pass whose loss and accuracy are reported (default: the preset's; paper: first)"),
  restore: z
    .enum(['exact', 'subtract'])
    .optional()
    .describe(
      "How the descent step returns to w: bit for bit, or by subtraction (default: the preset's; paper: exact)",
    ),
  ascentClip: clipSchema.optional().describe('Largest norm of the gradient that the ascent follows (default: none)'),
  innerSteps: positiveInteger
    .optional()
    .describe('Ascent steps, each of length rho from where the one before has led (default: 1)'),
  interval: positiveInteger
    .optional()
    .describe('Perturb at every so-manieth step, else make a plain step of the base optimizer (default: 1)'),
  probability: share.optional().describe('Perturb with this probability, else make a plain step (default: 1)'),
  ascentFraction: share.optional().describe('Share of the batch that the ascent is made on (default: 1)'),
  microBatch: positiveInteger
    .nullable()
    .optional()
    .describe('m of m-sharpness: one perturbation for each so many samples (default: one for the batch)'),
  microBatchReduction: z
    .enum(['mean', 'sum'])
    .optional()
    .describe("How gradients of micro-batches are put together (default: the preset's; paper: mean)"),
  seed: wholeNumber.optional().describe('Seed of what the optimizer itself draws (default: 0)'),
};

const adaptiveRules = {
  eta: nonNegative.optional().describe("Added to |w| in the scale (default: the preset's; paper: 0.01)"),
  adaptive: z
    .enum(['weights', 'all', 'names'])
    .optional()
    .describe(
      'Which parameters are scaled: weights (not biases), all, or those with "weight" in their name (default: the preset\'s; paper: weights)',
    ),
  linearFilters: z
    .boolean()
    .optional()
    .describe('With scale filter: whether rows of linear weights are filters, too (default: false)'),
};

/** Options of {@link SAM}. */
export const samSchema = z.strictObject({
  preset: z
    .enum(Object.keys(samPresets) as [SamPreset, ...SamPreset[]])
    .default('paper')
    .describe('Rules of a published implementation'),
  rho: nonNegative.optional().describe("Radius of the neighbourhood (default: the preset's; paper: 0.05)"),
  ...rulesOfAll,
});

/** Options of {@link ASAM}. */
export const asamSchema = z.strictObject({
  preset: z
    .enum(Object.keys(asamPresets) as [AsamPreset, ...AsamPreset[]])
    .default('paper')
    .describe('Rules of a published implementation'),
  rho: nonNegative.optional().describe("Radius of the neighbourhood (default: the preset's; paper: 0.5)"),
  scale: z
    .enum(['element', 'filter'])
    .optional()
    .describe(
      "Scale by |w| of each element, or by the norm of each convolution filter (default: the preset's; paper: element)",
    ),
  ...adaptiveRules,
  ...rulesOfAll,
});

/** Rules that the variants share with SAM, and with ASAM when they are given a scale. */
const rulesOfVariants = {
  scale: z
    .enum(['none', 'element', 'filter'])
    .optional()
    .describe("The scale of the ball: none, or ASAM's (default: none)"),
  ...adaptiveRules,
  ...rulesOfAll,
};

const variantSchema = <F extends z.ZodRawShape>(rho: number, fields: F) =>
  z
    .strictObject({ rho: nonNegative.default(rho).describe('Radius of the neighbourhood'), ...rulesOfVariants })
    .extend(fields);

export const gsamSchema = variantSchema(0.05, variantFields.gsam);
export const lookSamSchema = variantSchema(0.05, variantFields.looksam);
export const esamSchema = variantSchema(0.05, variantFields.esam);
export const rstSchema = variantSchema(0.05, variantFields.rst);
export const grstSchema = variantSchema(0.05, variantFields.grst);
export const wsamSchema = variantSchema(0.05, variantFields.wsam);
export const fsamSchema = variantSchema(0.05, variantFields.fsam);
export const msamSchema = variantSchema(0.3, {});
export const samOnSchema = variantSchema(0.5, {});
export const randomPerturbationSchema = variantSchema(0.05, {});
/** The extragradient method has no radius: its first step is the base optimizer's lr long. */
export const extragradientSchema = z.strictObject(rulesOfAll);

export type SAMOptions = z.input<typeof samSchema>;
export type ASAMOptions = z.input<typeof asamSchema>;
export type GSAMOptions = z.input<typeof gsamSchema>;
export type LookSAMOptions = z.input<typeof lookSamSchema>;
export type ESAMOptions = z.input<typeof esamSchema>;
export type RSTOptions = z.input<typeof rstSchema>;
export type GRSTOptions = z.input<typeof grstSchema>;
export type WSAMOptions = z.input<typeof wsamSchema>;
export type FSAMOptions = z.input<typeof fsamSchema>;
export type MSAMOptions = z.input<typeof msamSchema>;
export type SAMONOptions = z.input<typeof samOnSchema>;
export type RandomPerturbationOptions = z.input<typeof randomPerturbationSchema>;
export type ExtragradientOptions = z.input<typeof extragradientSchema>;

/** The rules of SAM: the preset's, overridden by what was given. */
export function samRules({ preset, ...options }: z.output<typeof samSchema>): SharpnessRules {
  return override(samPresets[preset], options);
}

/** The rules of ASAM: the preset's, overridden by what was given. */
export function asamRules({ preset, ...options }: z.output<typeof asamSchema>): SharpnessRules {
  return override(asamPresets[preset], options);
}

/** The rules of a variant: SAM's, overridden by what was given; with a scale, ASAM's eta and adaptive parameters. */
export function variantRules(options: object, variant: Variant = plainRules.variant): SharpnessRules {
  const adaptive = 'scale' in options && options.scale !== undefined && options.scale !== 'none';
  const { eta } = asamPresets.paper;
  return override({ ...plainRules, ...(adaptive && { eta }), variant }, options);
}

/** Options of a rule's name replace the rule; others are the variant's own, and went into it. */
function override(rules: SharpnessRules, options: Record<string, unknown> | object): SharpnessRules {
  const renamed = Object.entries(options).map(([key, value]) => [key === 'ascentClip' ? 'clip' : key, value] as const);
  const given = renamed.filter(([key, value]) => key in rules && value !== undefined);
  return { ...rules, ...Object.fromEntries(given) };
}
