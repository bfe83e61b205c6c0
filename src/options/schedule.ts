// Schedules of learning rate, rho and momentum: a factor on every group's own value, as a function of time in epochs.
// The formulas are those of torch.optim.lr_scheduler; docs/schedules.md has them side by side.

import { z } from 'zod';
import { fraction, nonNegative, wholeNumber } from './fields.js';

const positive = z.number().gt(0);
const belowOne = z.number().min(0).lt(1);

/** What every schedule has. */
const timing = {
  warmupEpochs: nonNegative.default(0).describe('Epochs of a linear rise to where the schedule begins'),
  warmupStart: fraction
    .nullable()
    .default(null)
    .describe("Factor at the first step of the warm-up, as LinearLR's start_factor (default: 1/n for n steps)"),
  by: z.enum(['step', 'epoch']).default('step').describe('Whether the factor moves at every step or once an epoch'),
};

const epochs = positive
  .nullable()
  .default(null)
  .describe('Epochs after the warm-up until the end is reached (default: the rest of the run)');

const milestones = z
  .array(nonNegative)
  .refine(
    (list) => list.every((epoch, index) => index === 0 || epoch > (list[index - 1] ?? 0)),
    'epochs, each above the one before',
  )
  .default([])
  .describe('Epochs at which the factor is multiplied by gamma (default: half and three quarters of the run)');

const gammaAt = (default_: number, every: string) =>
  positive.default(default_).describe(`What the factor is multiplied by ${every}`);

const constant = z.strictObject({ type: z.literal('constant'), ...timing });

const cosine = z.strictObject({
  type: z.literal('cosine'),
  ...timing,
  minFactor: fraction.default(0).describe('The factor at the end'),
  epochs,
});

const step = z
  .strictObject({
    type: z.literal('step'),
    ...timing,
    stepSize: positive
      .nullable()
      .default(null)
      .describe('Epochs from one multiplication to the next, counted from the end of the warm-up'),
    milestones,
    gamma: gammaAt(0.1, 'at every stepSize or milestone'),
  })
  .refine(({ stepSize, milestones }) => stepSize === null || milestones.length === 0, {
    path: ['milestones'],
    message: 'none beside a stepSize',
  });

const multiStep = z.strictObject({
  type: z.literal('multiStep'),
  ...timing,
  milestones,
  gamma: gammaAt(0.1, 'at every milestone'),
});

const exponential = z.strictObject({
  type: z.literal('exponential'),
  ...timing,
  gamma: gammaAt(0.95, 'with every epoch'),
});

const linear = z.strictObject({
  type: z.literal('linear'),
  ...timing,
  startFactor: fraction.default(1).describe('The factor after the warm-up'),
  endFactor: fraction.default(0).describe('The factor at the end'),
  epochs,
});

const polynomial = z.strictObject({
  type: z.literal('polynomial'),
  ...timing,
  power: positive.default(1).describe('Exponent of the share of time that is left'),
  epochs,
});

const cycle = {
  type: z.literal('oneCycle'),
  ...timing,
  pctStart: fraction.default(0.3).describe('Share of the run in which the factor rises'),
  divFactor: z.number().min(1).default(25).describe('The factor starts at 1 / divFactor'),
  finalDivFactor: z.number().min(1).default(1e4).describe('The factor ends at 1 / (divFactor * finalDivFactor)'),
  anneal: z.enum(['cos', 'linear']).default('cos').describe('Course between two of the values'),
  threePhase: z.boolean().default(false).describe('Fall back to 1 / divFactor as fast as it rose, then to the end'),
};

const cycleMomentum = {
  cycleMomentum: z.boolean().default(true).describe("Move SGD's momentum or Adam's beta1 against the learning rate"),
  baseMomentum: belowOne.default(0.85).describe('Momentum where the learning rate is highest'),
  maxMomentum: belowOne.default(0.95).describe('Momentum at the start and at the end'),
};

const phasesFit = ({ threePhase, pctStart }: { threePhase: boolean; pctStart: number }) =>
  !threePhase || pctStart <= 0.5;
const phasesProblem = { path: ['pctStart'], message: '0.5 or less, for a rise and a fall as long in threePhase' };

const plateau = {
  type: z.literal('plateau'),
  ...timing,
  mode: z.enum(['min', 'max']).default('min').describe('Watch the loss (min) or the accuracy (max)'),
  factor: belowOne.default(0.1).describe('What the value is multiplied by'),
  patience: wholeNumber.default(10).describe('Epochs in a row without a better score that are still accepted'),
  threshold: nonNegative.default(1e-4).describe('By how much a score must be better'),
  thresholdMode: z.enum(['rel', 'abs']).default('rel').describe('Whether threshold is a share of the best score'),
  cooldown: wholeNumber.default(0).describe('Epochs after a reduction that do not count'),
  eps: nonNegative.default(1e-8).describe('Reductions by no more than this are left out'),
};

const simple = [constant, cosine, step, multiStep, exponential, linear, polynomial] as const;
const names = [
  'constant',
  'cosine',
  'step',
  'multiStep',
  'exponential',
  'linear',
  'polynomial',
  'oneCycle',
  'plateau',
] as const;

/** A schedule, by its name or with its details. */
const named = <N extends string, S extends z.ZodType>(types: readonly [N, ...N[]], details: S) =>
  z.union([z.enum(types).transform((type) => details.parse({ type }) as z.output<S>), details]);

const lrSchedule = named(
  names,
  z.discriminatedUnion('type', [
    ...simple,
    z.strictObject({ ...cycle, ...cycleMomentum }).refine(phasesFit, phasesProblem),
    z.strictObject({ ...plateau, minLr: nonNegative.default(0).describe('Lowest learning rate of the first group') }),
  ]),
);

const otherSchedules = [
  ...simple,
  z.strictObject(cycle).refine(phasesFit, phasesProblem),
  z.strictObject({ ...plateau, min: nonNegative.default(0).describe('Lowest value in the first group') }),
] as const;

/**
 * Of the learning rate: a name (`'cosine'`), or an object with the type and its details (`{ type: 'cosine',
 * warmupEpochs: 5 }`).
 */
export const scheduleSchema = lrSchedule
  .prefault('constant')
  .describe(`Learning-rate schedule: ${names.join(', ')}, or an object with its type and details`);

/** Of rho: as the learning rate, or `{ type: 'lr', min }`, with which rho follows the learning rate down to `min`. */
export const rhoScheduleSchema = named(
  [...names, 'lr'],
  z.discriminatedUnion('type', [
    ...otherSchedules,
    z.strictObject({
      type: z.literal('lr'),
      ...timing,
      min: nonNegative.default(0).describe('Rho where the learning rate is lowest'),
    }),
  ]),
)
  .optional()
  .describe('Schedule of rho: as of the learning rate, or lr to follow that one (default: rho is constant)');

/** Of SGD's momentum or Adam's beta1. */
export const momentumScheduleSchema = named(names, z.discriminatedUnion('type', [...otherSchedules]))
  .optional()
  .describe("Schedule of SGD's momentum or Adam's beta1 (default: constant, or what oneCycle does to it)");

export type Schedule = z.input<typeof scheduleSchema>;
export type ScheduleConfig = z.output<typeof scheduleSchema>;
export type RhoSchedule = z.input<typeof rhoScheduleSchema>;
export type MomentumSchedule = z.input<typeof momentumScheduleSchema>;
