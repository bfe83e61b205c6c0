// Options: defaults, presets, and the messages for wrong ones. Nothing native is needed here.

import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { FlatminError } from '../src/errors.js';
import {
  adamSchema,
  asamRules,
  asamSchema,
  evaluateSchema,
  layerListSchema,
  nearest,
  parseOptions,
  sequentialSchema,
  sgdSchema,
  trainerSchema,
} from '../src/options/index.js';

function refusal(schema: z.ZodType, input: unknown, subject = 'X'): string {
  try {
    parseOptions(schema, input, subject);
  } catch (error) {
    expect(error).toBeInstanceOf(FlatminError);
    expect((error as FlatminError).code).toBe('ERR_FLATMIN_OPTION');
    return (error as FlatminError).message;
  }
  throw new Error(`accepted ${JSON.stringify(input)}`);
}

describe('parseOptions', () => {
  it.each([
    [sgdSchema, { momentun: 0.9 }, "no option 'momentun'; did you mean 'momentum'?"],
    [sgdSchema, { lr: 'fast' }, `option 'lr': found "fast", expected a number`],
    [sgdSchema, { lr: -1 }, "option 'lr': found -1, expected a number of at least 0"],
    [sgdSchema, { lr: Number.NaN }, "option 'lr': found NaN, expected a number"],
    [sgdSchema, { nesterov: true }, "option 'nesterov': found true, expected false, or a momentum above 0"],
    [sgdSchema, null, 'found null, expected an object'],
    [sgdSchema, 3, 'found 3, expected an object'],
    [adamSchema, { betas: [0.9, 1] }, "option 'betas[1]': found 1, expected a number of less than 1"],
    [asamSchema, { scale: 'elment' }, `found "elment", expected one of "element", "filter"; did you mean 'element'?`],
    [asamSchema, { preset: 'samsun' }, "did you mean 'samsung'?"],
    [trainerSchema, { epochs: 1.5 }, "option 'epochs': found 1.5, expected a whole number"],
    [
      trainerSchema,
      { schedule: 'cosin' },
      `"multiStep", "exponential", "linear", "polynomial", "oneCycle", "plateau", or an object; did you mean 'cosine'?`,
    ],
    [trainerSchema, { schedule: { type: 'cosine', warmup: 3 } }, "no option 'warmup' in 'schedule'"],
    [trainerSchema, { schedule: { type: 'cosine', warmupEpoch: 3 } }, "did you mean 'warmupEpochs'?"],
    [trainerSchema, { schedule: { type: 'step', milestones: [20, 10] } }, 'epochs, each above the one before'],
    [trainerSchema, { schedule: { type: 'step', stepSize: 3, milestones: [10] } }, 'none beside a stepSize'],
    [trainerSchema, { schedule: { type: 'oneCycle', threePhase: true, pctStart: 0.6 } }, 'expected 0.5 or less'],
    [trainerSchema, { schedule: { type: 'plateau', factor: 1 } }, 'found 1, expected a number of less than 1'],
    [trainerSchema, { schedule: 'lr' }, `option 'schedule': found "lr", expected one of "constant"`],
    [trainerSchema, { rhoSchedule: { type: 'lr', mn: 0.1 } }, "no option 'mn' in 'rhoSchedule'; did you mean 'min'?"],
    [trainerSchema, { rhoSchedule: { type: 'oneCycle', cycleMomentum: true } }, "no option 'cycleMomentum'"],
    [trainerSchema, { momentumSchedule: { type: 'lr' } }, "option 'momentumSchedule"],
    [trainerSchema, { average: { type: 'ema', decay: 2 } }, "option 'average.decay': found 2"],
    [trainerSchema, { average: { type: 'ema', startEpoch: 2 } }, "no option 'startEpoch' in 'average'"],
    [trainerSchema, { augment: { mixup: 0 } }, "option 'augment.mixup': found 0"],
    [trainerSchema, { loss: { type: 'focal', classWeights: [0, 0] } }, "option 'loss.classWeights'"],
    [trainerSchema, { loss: { type: 'crossEntropy', labelSmoothing: 2 } }, "option 'loss.labelSmoothing': found 2"],
    [trainerSchema, { checkpoint: { lst: true } }, "no option 'lst' in 'checkpoint'; did you mean 'last'?"],
    [trainerSchema, { metrics: ['f1'] }, 'option \'metrics[0]\': found "f1"'],
    [evaluateSchema, { batchSize: 0 }, "option 'batchSize': found 0, expected a number of at least 1"],
    [sequentialSchema, { inputShape: [1, 8] }, "option 'inputShape'"],
    [sequentialSchema, {}, "option 'inputShape': found nothing, expected"],
    [layerListSchema, [{ type: 'conv' }], "did you mean 'conv2d'?"],
    [layerListSchema, [{ type: 'conv2d', kernelSize: 3 }], "option '[0].outChannels': found nothing"],
    [
      layerListSchema,
      [{ type: 'residual', layers: [{ type: 'relu', size: 3 }] }],
      "no option 'size' in '[0].layers[0]'",
    ],
    [layerListSchema, [{ type: 'linear', outFeature: 3 }], "did you mean 'outFeatures'?"],
    [layerListSchema, [], 'expected at least 1 element'],
  ])('explains what is wrong (%#)', (schema, input, message) => {
    expect(refusal(schema, input)).toContain(message);
  });

  it('names every problem, and what the options belong to', () => {
    const message = refusal(sgdSchema, { lr: -1, momentum: 'x' }, 'SGD');
    expect(message.split('\n')).toHaveLength(2);
    expect(message).toMatch(/^SGD option 'lr'/);
  });

  it('fills in defaults and leaves out what is undefined', () => {
    expect(parseOptions(sgdSchema, { lr: undefined }, 'SGD')).toEqual({
      lr: 0.1,
      momentum: 0,
      dampening: 0,
      weightDecay: 0,
      nesterov: false,
      groups: [],
    });
    expect(parseOptions(evaluateSchema, { limit: undefined }, 'x')).not.toHaveProperty('limit');
  });

  it('reads short and long forms alike', () => {
    const short = parseOptions(trainerSchema, { schedule: 'cosine', loss: 'mse', augment: 'standard' }, 'Trainer');
    const long = parseOptions(
      trainerSchema,
      { schedule: { type: 'cosine' }, loss: { type: 'mse' }, augment: { padCrop: 4, flip: true } },
      'Trainer',
    );
    expect(long).toMatchObject(short);
  });

  it('fills in the defaults of nested layers', () => {
    const [block] = parseOptions(
      layerListSchema,
      [{ type: 'residual', layers: [{ type: 'conv2d', outChannels: 4, kernelSize: 3 }] }],
      'x',
    );
    expect(block).toMatchObject({ shortcut: 'identity', layers: [{ stride: 1, padding: 0, groups: 1, bias: true }] });
  });
});

describe('nearest', () => {
  it('finds a misspelt name and stays silent when none is near', () => {
    expect(nearest('weightdecay', ['weightDecay', 'lr'])).toBe('weightDecay');
    expect(nearest('zebra', ['weightDecay', 'lr'])).toBeUndefined();
    expect(nearest('x', [])).toBeUndefined();
  });
});

describe('presets of ASAM', () => {
  const rules = (options: z.input<typeof asamSchema>) => asamRules(parseOptions(asamSchema, options, 'ASAM'));

  it('default to the paper', () => {
    expect(rules({})).toMatchObject({
      rho: 0.5,
      eta: 0.01,
      scale: 'element',
      adaptive: 'weights',
      guard: 1e-16,
      batchNorm: 'first',
      restore: 'exact',
    });
  });

  it('give way to explicit options', () => {
    expect(rules({ preset: 'davda54', rho: 2, scale: 'filter' })).toMatchObject({
      rho: 2,
      scale: 'filter',
      guard: 1e-12,
      adaptive: 'all',
      eta: 0,
    });
  });

  it('differ between the class and the example of samsung in eta alone', () => {
    expect({ ...rules({ preset: 'samsung' }), eta: 0 }).toEqual(rules({ preset: 'samsung-example' }));
  });
});

describe('JSON Schema', () => {
  it('describes each training option, with its default', () => {
    const { properties } = z.toJSONSchema(trainerSchema, { io: 'input' }) as {
      properties: Record<string, { description?: string }>;
    };
    for (const [name, property] of Object.entries(properties)) expect(property.description, name).toBeTruthy();
    expect(properties).toMatchObject({ batchSize: { default: 128 }, seed: { default: 0 } });
  });

  it('can be made of the layer language', () => {
    expect(JSON.stringify(z.toJSONSchema(layerListSchema, { io: 'input' }))).toContain('outChannels');
  });
});
