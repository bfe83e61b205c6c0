// Options of SAM and ASAM: a preset settles every rule, and each rule can be set on its own.
// The defaults shown by help and documentation are those of the preset `paper`.

import { z } from 'zod';
import { nonNegative } from './fields.js';
import { type AsamPreset, asamPresets, type SamPreset, type SharpnessRules, samPresets } from './presets.js';

const rulesOfBoth = {
  guard: nonNegative.optional().describe("Added to the norm of the gradient (default: the preset's; paper: 1e-16)"),
  batchNorm: z
    .enum(['first', 'both'])
    .optional()
    .describe("Passes that update batch norm's running statistics (default: the preset's; paper: first)"),
  restore: z
    .enum(['exact', 'subtract'])
    .optional()
    .describe(
      "How the descent step returns to w: bit for bit, or by subtraction (default: the preset's; paper: exact)",
    ),
};

/** Options of {@link SAM}. */
export const samSchema = z.strictObject({
  preset: z
    .enum(Object.keys(samPresets) as [SamPreset, ...SamPreset[]])
    .default('paper')
    .describe('Rules of a published implementation'),
  rho: nonNegative.optional().describe("Radius of the neighbourhood (default: the preset's; paper: 0.05)"),
  ...rulesOfBoth,
});

/** Options of {@link ASAM}. */
export const asamSchema = z.strictObject({
  preset: z
    .enum(Object.keys(asamPresets) as [AsamPreset, ...AsamPreset[]])
    .default('paper')
    .describe('Rules of a published implementation'),
  rho: nonNegative.optional().describe("Radius of the neighbourhood (default: the preset's; paper: 0.5)"),
  eta: nonNegative.optional().describe("Added to |w| in the scale (default: the preset's; paper: 0.01)"),
  scale: z
    .enum(['element', 'filter'])
    .optional()
    .describe(
      "Scale by |w| of each element, or by the norm of each convolution filter (default: the preset's; paper: element)",
    ),
  adaptive: z
    .enum(['weights', 'all', 'names'])
    .optional()
    .describe(
      'Which parameters are scaled: weights (not biases), all, or those with "weight" in their name (default: the preset\'s; paper: weights)',
    ),
  ...rulesOfBoth,
});

export type SAMOptions = z.input<typeof samSchema>;
export type ASAMOptions = z.input<typeof asamSchema>;

/** The rules of SAM: the preset's, overridden by what was given. */
export function samRules(options: z.output<typeof samSchema>): SharpnessRules {
  return override(samPresets[options.preset], options);
}

/** The rules of ASAM: the preset's, overridden by what was given. */
export function asamRules(options: z.output<typeof asamSchema>): SharpnessRules {
  return override(asamPresets[options.preset], options);
}

function override(rules: SharpnessRules, options: Record<string, unknown>): SharpnessRules {
  const given = Object.entries(options).filter(([key, value]) => key !== 'preset' && value !== undefined);
  return { ...rules, ...Object.fromEntries(given) };
}
