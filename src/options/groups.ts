// Parameter groups and clipping: what every optimizer can be given beside its own settings.

import { z } from 'zod';
import { nonNegative } from './fields.js';

const KINDS = ['convWeight', 'linearWeight', 'normWeight', 'bias', 'normBias', 'layerScale', 'embedding'] as const;

/** Parameters with settings of their own; what is not given is the optimizer's. */
const groupSchema = z
  .strictObject({
    parameters: z
      .union([
        z
          .string()
          .min(1)
          .transform((name) => [name]),
        z.array(z.string().min(1)),
      ])
      .default([])
      .describe("Names of parameters, '*' for any characters: 'layer1.*', '*.bias'"),
    kinds: z
      .array(z.enum(KINDS))
      .default([])
      .describe(
        'Kinds of parameters: convWeight, linearWeight, normWeight (gamma), bias, normBias (beta), layerScale, embedding (class token, positions)',
      ),
    lr: nonNegative.optional().describe('Learning rate'),
    weightDecay: nonNegative.optional().describe('Weight decay'),
    momentum: nonNegative.optional().describe('Momentum factor (SGD)'),
    rho: nonNegative.optional().describe('Radius (SAM and its family); one norm is taken over all groups'),
    perturb: z.boolean().optional().describe('false: stays at w, and out of the norm (SAM and its family)'),
  })
  .refine((group) => group.parameters.length + group.kinds.length > 0, 'names in `parameters` or `kinds`');

export const groupsSchema = z
  .array(groupSchema)
  .default([])
  .describe('Parameter groups with settings of their own; parameters that none names are groups[0]');

/** Clipping by the norm of the whole gradient, as `torch.nn.utils.clip_grad_norm_` does. */
export const clipSchema = z
  .union([
    z
      .number()
      .gt(0)
      .transform((norm) => ({ norm, guard: 1e-6 })),
    z.strictObject({
      norm: z.number().gt(0).describe('Largest norm'),
      guard: nonNegative.default(1e-6).describe('Added to the norm of the gradient'),
    }),
  ])
  .nullable();

/** Where weight decay acts. */
export const decaySchema = z.enum(['optimizer', 'loss', 'decoupled']);

export type GroupOptions = z.input<typeof groupSchema>;
export type GroupConfig = z.output<typeof groupSchema>;
export type Clip = { norm: number; guard: number };
export type Decay = z.output<typeof decaySchema>;
