// Every variant and option of the sharpness-aware family must end where its formula ends: goldens/variants.py writes each one out.
// What is random (coins, masks, noise) is held to the formula's other properties.

import { describe, expect, test } from 'vitest';
import {
  ESAM,
  GRST,
  layers,
  Model,
  RandomPerturbation,
  RST,
  SAM,
  SGD,
  type SharpnessAware,
  Tensor,
  WSAM,
} from '../src/index.js';
import { expectEnd, expectLosses, values } from './goldens/expect.js';
import { uniform } from './goldens/formula.js';
import { variantNet as net, type OptimizerCase, optimizerOf } from './goldens/golden.js';
import { workingWeights } from './support/working-weights.js';
import { expectClose, linearNet, weightsOf } from './support.js';

const certain = Object.entries(net.golden.cases).filter(([, { coins }]) => coins === undefined);

/** What a step reports: the part-of-batch ascent knows the whole batch's loss at w + eps alone, ESAM that of some samples there. */
function reported({ method }: OptimizerCase, { loss, perturbedLoss }: OptimizerCase['steps'][number]) {
  if (loss === null) return { loss: perturbedLoss as number };
  return method === 'ESAM' ? { loss } : { loss, perturbedLoss: perturbedLoss as number | null };
}

test.each(certain)('%s', async (_, golden) => {
  const model = await net.model('float64');
  const optimizer = optimizerOf(model, golden);
  const options = golden.accumulate === undefined ? {} : { accumulate: golden.accumulate };
  for (const [index, step] of golden.steps.entries())
    expectLosses(index, await optimizer.step(net.batch(index, 'float64'), options), reported(golden, step));
  await expectEnd(net, model, golden);
});

describe.each([
  ['rst', (inner: SGD, seed: number) => new RST(inner, { rho: 0.1, probability: 0.5, seed })],
  // Its c is 1 / probability, unless told otherwise.
  ['grst', (inner: SGD, seed: number) => new GRST(inner, { rho: 0.1, probability: 0.5, seed })],
] as const)('%s', (method, wrap) => {
  test('follows the coins that its seed gives', async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const model = await net.model('float64');
      const optimizer = wrap(new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 }), seed);
      let coins = '';
      for (let step = 0; step < 3; step++)
        coins += (await optimizer.step(net.batch(step, 'float64'))).perturbedLoss === null ? 0 : 1;
      await expectEnd(net, model, net.golden.cases[`${method}/${coins}`] as OptimizerCase);
      seen.add(coins);
    }
    expect(seen.size).toBeGreaterThan(3);
  });
});

const INPUTS = 40;
const CLASSES = 10;
const linearBatch = {
  images: Tensor.from(uniform('linear', 8 * INPUTS), [8, 1, 1, INPUTS], { dtype: 'float64' }),
  labels: [0, 1, 2, 3, 4, 5, 6, 7],
};

/** What the first ascent adds to the weight and the bias of a linear net; `first` is what comes before the ascent. */
async function firstAscent(wrap: (inner: SGD) => SharpnessAware, first: (model: Model) => unknown = () => undefined) {
  const model = linearNet(INPUTS, CLASSES);
  const optimizer = wrap(new SGD(model, { lr: 0.1 }));
  const before = await workingWeights(model, INPUTS);
  await first(model);
  await optimizer.ascentStep();
  const after = await workingWeights(model, INPUTS);
  const minus = (a: number[], b: number[]): number[] => a.map((x, i) => x - (b[i] as number));
  return { weight: minus(after.weight, before.weight), bias: minus(after.bias, before.bias) };
}

const norm = (list: number[]): number => Math.hypot(...list);

describe('ESAM', () => {
  const [rho, beta] = [0.1, 0.6];

  /** eps with the mask of a seed, and what it is without a mask: rho g / (beta ||g||). */
  async function ascent(mask: 'element' | 'tensor', seed: number) {
    const g = { weight: [] as number[], bias: [] as number[] };
    const eps = await firstAscent(
      (inner) => new ESAM(inner, { rho, beta, gamma: 0.5, mask, seed }),
      async (model) => {
        await model.backward(linearBatch);
        for (const name of ['weight', 'bias'] as const) g[name] = await values(model.gradient(`1.${name}`) as Tensor);
      },
    );
    const factor = rho / (beta * norm([...g.weight, ...g.bias]));
    return { eps, whole: { weight: g.weight.map((x) => factor * x), bias: g.bias.map((x) => factor * x) } };
  }

  test('perturbs a share beta of the elements by rho g / (beta ||g||), the others not at all', async () => {
    const { eps, whole } = await ascent('element', 1);
    const moved = [...eps.weight.entries()].filter(([, x]) => Math.abs(x) > 1e-12);
    for (const [i, x] of moved) expect(x).toBeCloseTo(whole.weight[i] as number, 10);
    // Five standard deviations of a binomial count.
    const count = eps.weight.length;
    expect(Math.abs(moved.length - beta * count)).toBeLessThan(5 * Math.sqrt(beta * (1 - beta) * count));
  });

  test('draws one mask for each tensor with mask: tensor', async () => {
    const patterns = new Set<string>();
    for (let seed = 0; seed < 16; seed++) {
      const { eps, whole } = await ascent('tensor', seed);
      const pattern = (['weight', 'bias'] as const).map((name) => {
        const moved = norm(eps[name]) > 1e-12;
        expectClose(eps[name], moved ? whole[name] : eps[name].map(() => 0), 10);
        return moved;
      });
      patterns.add(String(pattern));
    }
    expect(patterns.size).toBe(4);
  });
});

describe('random perturbation', () => {
  const ascent = async (seed: number): Promise<number[]> => {
    const eps = await firstAscent((inner) => new RandomPerturbation(inner, { rho: 0.3, seed }));
    return [...eps.weight, ...eps.bias];
  };

  test('has the length rho in a direction of its seed', async () => {
    const [first, again, other] = [await ascent(1), await ascent(1), await ascent(2)];
    expect(norm(first)).toBeCloseTo(0.3, 10);
    expect(again).toEqual(first);
    const cosine = first.reduce((sum, x, i) => sum + x * (other[i] as number), 0) / 0.3 ** 2;
    // Five standard deviations of the cosine of two random directions.
    expect(Math.abs(cosine)).toBeLessThan(5 / Math.sqrt(first.length));
  });

  test('is drawn from a normal distribution', async () => {
    const u = (await ascent(3)).map((x) => (x * Math.sqrt(CLASSES * (INPUTS + 1))) / 0.3);
    const moment = (k: number): number => u.reduce((sum, x) => sum + x ** k, 0) / u.length;
    // Mean 0 and fourth moment 3, each within five standard deviations (1 and sqrt(96) over sqrt(n)).
    expect(Math.abs(moment(1))).toBeLessThan(5 / Math.sqrt(u.length));
    expect(Math.abs(moment(4) - 3)).toBeLessThan((5 * Math.sqrt(96)) / Math.sqrt(u.length));
  });
});

describe('masks', () => {
  test.each(['shared', 'fresh'] as const)('%s', async (masks) => {
    const list = [layers.flatten(), layers.dropout(0.5), layers.linear(CLASSES)];
    const model = Model.sequential(list, { inputShape: [1, 1, INPUTS], dtype: 'float64', seed: 5 });
    const { loss, perturbedLoss } = await new SAM(new SGD(model), { rho: 0, masks }).step(linearBatch);
    if (masks === 'shared') expect(perturbedLoss).toBe(loss);
    else expect(perturbedLoss).not.toBe(loss);
  });
});

test('WSAM, coupled, with c = 0.5 is SAM', async () => {
  const [one, two] = [await net.model('float64'), await net.model('float64')];
  const optimizers = [
    new WSAM(new SGD(one, { lr: 0.1 }), { rho: 0.1, c: 0.5, coupled: true }),
    new SAM(new SGD(two, { lr: 0.1 }), { rho: 0.1 }),
  ];
  for (const optimizer of optimizers) await optimizer.step(net.batch(0, 'float64'));
  const expected = await weightsOf(two);
  for (const [name, actual] of Object.entries(await weightsOf(one)))
    expectClose(actual, expected[name] as number[], 13);
});
