// Optimizers: the maths of a step, the order of its parts, groups, wrapping. float64 where formulas are compared.

import { describe, expect, it } from 'vitest';
import {
  Adam,
  AdamW,
  ASAM,
  type ASAMOptions,
  type Batch,
  layers,
  Model,
  type Optimizer,
  SAM,
  SGD,
  Tensor,
} from '../src/index.js';
import { uniform } from './goldens/formula.js';
import { workingWeights } from './support/working-weights.js';
import { convBatch, convNet, errorOf, expectClose, linearNet, weightsOf } from './support.js';

const values = async (tensor: Tensor | null): Promise<number[]> => Array.from((await tensor?.data()) ?? [], Number);

function linearBatch(inputs: number, count: number): Batch {
  return {
    images: Tensor.from(uniform('linear batch', inputs * count), [count, 1, 1, inputs], { dtype: 'float64' }),
    labels: Array.from({ length: count }, (_, index) => index % 2),
  };
}

const norm = (list: readonly number[]): number => Math.hypot(...list);

/** What the ascent adds to weight and bias of a linear net, with both before it. */
async function perturbation(wrap: (base: SGD) => SAM | ASAM) {
  const model = linearNet(4, 3);
  const optimizer = wrap(new SGD(model, { lr: 0.1 }));
  await model.backward(linearBatch(4, 6));
  const before = await workingWeights(model, 4);
  const gradient = [...(await values(model.gradient('1.weight'))), ...(await values(model.gradient('1.bias')))];
  await optimizer.ascentStep();
  const after = await workingWeights(model, 4);
  const w = [...before.weight, ...before.bias];
  const eps = [...after.weight, ...after.bias].map((value, index) => value - (w[index] as number));
  return { w, eps, gradient, weights: before.weight.length };
}

describe('base optimizers', () => {
  it('SGD with momentum and weight decay follows its formula', async () => {
    const model = linearNet(3, 2);
    const [lr, momentum, weightDecay] = [0.1, 0.9, 0.01];
    const optimizer = new SGD(model, { lr, momentum, weightDecay });
    const batch = linearBatch(3, 4);
    let expected = (await weightsOf(model))['1.weight'] as number[];
    let velocity = expected.map(() => 0);
    for (let step = 0; step < 3; step += 1) {
      await model.backward(batch);
      const gradient = await values(model.gradient('1.weight'));
      const raw = gradient.map((value, index) => value + weightDecay * (expected[index] as number));
      velocity = step === 0 ? raw : velocity.map((value, index) => momentum * value + (raw[index] as number));
      expected = expected.map((value, index) => value - lr * (velocity[index] as number));
      const { finite, gradientNorm } = await optimizer.step();
      expect(finite).toBe(true);
      expect(gradientNorm).toBeGreaterThan(0);
    }
    expectClose((await weightsOf(model))['1.weight'] as number[], expected, 12);
    expect([optimizer.steps, optimizer.skippedSteps]).toEqual([3, 0]);
  });

  it('step(batch) equals backward and step', async () => {
    const [one, two] = [convNet(), convNet()];
    const [first, second] = [new AdamW(one), new AdamW(two)];
    const info = await first.step(convBatch(0));
    expect(info.loss).toBe(await two.backward(convBatch(0)));
    await second.step();
    expect(info).toMatchObject({ count: 6, perturbedLoss: null, sharpness: null, finite: true });
    expect(await weightsOf(one)).toEqual(await weightsOf(two));
  });
});

describe('SAM and ASAM', () => {
  it.each([
    ['SGD', (model: Model) => new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 0.01, nesterov: true })],
    ['Adam', (model: Model) => new Adam(model, { lr: 0.01, weightDecay: 0.01 })],
    ['AdamW', (model: Model) => new AdamW(model, { lr: 0.01 })],
  ])('with rho 0 equal %s bit for bit, statistics included', async (_name, base) => {
    const plain = convNet();
    const optimizer = base(plain);
    for (let step = 0; step < 3; step += 1) await optimizer.step(convBatch(step));
    const expected = await weightsOf(plain);
    for (const wrap of [
      (inner: Optimizer) => new SAM(inner, { rho: 0 }),
      (inner: Optimizer) => new ASAM(inner, { rho: 0 }),
    ]) {
      const model = convNet();
      const wrapped = wrap(base(model));
      for (let step = 0; step < 3; step += 1) await wrapped.step(convBatch(step));
      expect(await weightsOf(model)).toEqual(expected);
    }
  });

  it('return to w bit for bit: with lr 0 only the statistics move', async () => {
    const model = convNet();
    const optimizer = new ASAM(new SGD(model, { lr: 0 }), { rho: 2 });
    const parameters = async () =>
      Object.entries(await weightsOf(model)).filter(([name]) => !/running|tracked/.test(name));
    const before = await parameters();
    for (let step = 0; step < 3; step += 1) await optimizer.step(convBatch(step));
    expect(await parameters()).toEqual(before);
  });

  it('never let a state dict hold perturbed weights', async () => {
    const model = convNet();
    const optimizer = new SAM(new SGD(model));
    const before = await weightsOf(model);
    await model.backward(convBatch(0));
    await optimizer.ascentStep();
    expect(optimizer.phase).toBe('perturbed');
    const during = await weightsOf(model);
    expect(during['0.weight']).toEqual(before['0.weight']);
    expect(during['5.weight']).toEqual(before['5.weight']);
  });

  it('SAM perturbs by rho * g / ||g||', async () => {
    const { eps, gradient } = await perturbation((base) => new SAM(base, { rho: 0.3 }));
    expect(norm(eps)).toBeCloseTo(0.3, 10);
    expectClose(
      eps,
      gradient.map((value) => (0.3 * value) / norm(gradient)),
    );
  });

  it.each<[string, ASAMOptions, (w: number, isWeight: boolean) => number]>([
    ['paper', {}, (w, isWeight) => (isWeight ? Math.abs(w) + 0.01 : 1)],
    ['invariant', { preset: 'invariant' }, (w) => Math.abs(w)],
    ['samsung', { preset: 'samsung', eta: 0.1 }, (w, isWeight) => (isWeight ? Math.abs(w) + 0.1 : 1)],
  ])('ASAM (%s) perturbs by rho * T^2 g / ||T g||', async (_name, options, scale) => {
    const { w, eps, gradient, weights } = await perturbation((base) => new ASAM(base, { ...options, rho: 0.5 }));
    const scales = w.map((value, index) => scale(value, index < weights));
    const scaled = gradient.map((value, index) => value * (scales[index] as number));
    expectClose(
      eps,
      scaled.map((value, index) => (0.5 * value * (scales[index] as number)) / norm(scaled)),
    );
    expect(norm(eps.map((value, index) => value / (scales[index] as number)))).toBeCloseTo(0.5, 8);
  });

  it('ASAM with preset invariant does not see w -> Aw (scaled channels before batch norm, rescaled ReLU units)', async () => {
    const build = () =>
      Model.sequential(
        [
          layers.conv2d(4, 3, { padding: 1 }),
          layers.batchNorm2d({ eps: 0 }),
          layers.relu(),
          layers.flatten(),
          layers.linear(6),
          layers.relu(),
          layers.linear(3),
        ],
        { inputShape: [1, 8, 8], dtype: 'float64', seed: 3 },
      );
    const lossAfterAscent = async (factors: readonly number[] | null, preset: 'invariant' | 'paper') => {
      const model = build();
      if (factors) await rescale(model, factors);
      const optimizer = new ASAM(new SGD(model), { preset, rho: 0.5 });
      const batch = convBatch(1, { dtype: 'float64' });
      const loss = await model.backward(batch);
      await optimizer.ascentStep();
      return [loss, await model.backward(batch)];
    };
    const factors = [0.5, 3, 7, 0.1, 2, 0.25];
    const [loss, perturbed] = (await lossAfterAscent(null, 'invariant')) as [number, number];
    const [sameLoss, samePerturbed] = (await lossAfterAscent(factors, 'invariant')) as [number, number];
    expect(perturbed).toBeGreaterThan(loss);
    expect(Math.abs(sameLoss - loss)).toBeLessThan(1e-9);
    expect(Math.abs(samePerturbed - perturbed)).toBeLessThan(1e-9);
    const other = await Promise.all([lossAfterAscent(null, 'paper'), lossAfterAscent(factors, 'paper')]);
    expect(Math.abs((other[0][1] as number) - (other[1][1] as number))).toBeGreaterThan(1e-6);
  });

  it.each([
    ['SAM', (base: Optimizer) => new SAM(base, { rho: 0.1 })],
    ['ASAM', (base: Optimizer) => new ASAM(base)],
  ])('%s: step(batch) equals the four lines bit for bit', async (_name, wrap) => {
    const [one, two] = [convNet(), convNet()];
    const [whole, parts] = [wrap(new SGD(one, { momentum: 0.9 })), wrap(new SGD(two, { momentum: 0.9 }))];
    for (let step = 0; step < 2; step += 1) {
      const batch = convBatch(step);
      const info = await whole.step(batch);
      const loss = await two.backward(batch);
      await parts.ascentStep();
      const perturbedLoss = await two.backward(batch);
      await parts.descentStep();
      expect(info).toMatchObject({ loss, perturbedLoss, sharpness: perturbedLoss - loss });
    }
    expect(await weightsOf(one)).toEqual(await weightsOf(two));
  });

  it.each([
    ['dropout', layers.dropout(0.5)],
    ['ShakeDrop', layers.shakeDrop(0.5)],
    ['Shake-Shake', layers.shakeShake([[], [layers.relu()]])],
  ])('draw the same for %s in both passes of a step, and anew in the next', async (_name, random) => {
    const model = Model.sequential([layers.flatten(), random, layers.linear(2)], {
      inputShape: [1, 1, 32],
      dtype: 'float64',
    });
    const optimizer = new SAM(new SGD(model, { lr: 0 }), { rho: 0 });
    const batch = linearBatch(32, 8);
    const losses: number[] = [];
    for (let step = 0; step < 2; step += 1) {
      const first = await model.backward(batch);
      await optimizer.ascentStep();
      expect(await model.backward(batch)).toBe(first);
      await optimizer.step();
      losses.push(first);
    }
    expect(losses[1]).not.toBe(losses[0]);
  });

  it('skip a step whose gradient is not finite, and count it', async () => {
    const model = convNet();
    const optimizer = new ASAM(new SGD(model, { momentum: 0.9 }));
    await optimizer.step(convBatch(0));
    const before = await weightsOf(model);
    const broken = {
      ...convBatch(1),
      images: Tensor.from(new Float32Array(6 * 64).fill(Number.POSITIVE_INFINITY), [6, 1, 8, 8]),
    };
    expect((await optimizer.step(broken)).finite).toBe(false);
    await model.backward(broken);
    expect((await optimizer.ascentStep()).finite).toBe(false);
    await model.backward(broken);
    await optimizer.descentStep();
    expect(await weightsOf(model)).toEqual(before);
    expect([optimizer.steps, optimizer.skippedSteps]).toEqual([1, 2]);
    expect((await optimizer.step(convBatch(2))).finite).toBe(true);
  });
});

describe('the order of steps', () => {
  const setUp = () => {
    const model = convNet();
    const base = new SGD(model);
    return { model, base, optimizer: new ASAM(base) };
  };

  it.each<[string, (parts: ReturnType<typeof setUp>) => Promise<unknown>]>([
    ['an ascent without gradients', ({ optimizer }) => optimizer.ascentStep()],
    [
      'a descent without an ascent',
      async ({ model, optimizer }) => {
        await model.backward(convBatch(0));
        await optimizer.descentStep();
      },
    ],
    [
      'a descent without a second backward',
      async ({ model, optimizer }) => {
        await model.backward(convBatch(0));
        await optimizer.ascentStep();
        await optimizer.descentStep();
      },
    ],
    [
      'two ascents',
      async ({ model, optimizer }) => {
        await model.backward(convBatch(0));
        await optimizer.ascentStep();
        await model.backward(convBatch(0));
        await optimizer.ascentStep();
      },
    ],
    [
      'step() without an ascent',
      async ({ model, optimizer }) => {
        await model.backward(convBatch(0));
        await optimizer.step();
      },
    ],
    [
      'step(batch) between ascent and descent',
      async ({ model, optimizer }) => {
        await model.backward(convBatch(0));
        await optimizer.ascentStep();
        await optimizer.step(convBatch(0));
      },
    ],
    ['the wrapped optimizer itself', ({ base }) => base.step(convBatch(0))],
    ['a plain step without gradients', () => new SGD(convNet()).step()],
    [
      'wrapping after the first step',
      async () => {
        const base = new SGD(convNet());
        await base.step(convBatch(0));
        new SAM(base);
      },
    ],
    ['wrapping twice', async ({ base }) => new SAM(base)],
  ])('is watched over: %s', async (_what, action) => {
    const { code } = await errorOf(() => action(setUp()));
    expect(code).toBe(_what === 'wrapping twice' ? 'ERR_FLATMIN_OPTION' : 'ERR_FLATMIN_STEP_ORDER');
  });
});

describe('parameter groups', () => {
  it('are shared by a base optimizer and its wrapper, and live', async () => {
    const model = linearNet(3, 2);
    const base = new SGD(model, { lr: 0.1 });
    const optimizer = new SAM(base, { rho: 0.05 });
    const [group] = optimizer.groups;
    if (group === undefined) throw new Error('no group');
    expect([group.lr, group.weightDecay, group.momentum, group.rho]).toEqual([0.1, 0, 0, 0.05]);
    group.lr = 0.2;
    await optimizer.step(linearBatch(3, 4));
    expect(base.groups[0]?.lr).toBe(0.2);
    group.lr = 0;
    const before = await weightsOf(model);
    await optimizer.step(linearBatch(3, 4));
    expect(await weightsOf(model)).toEqual(before);
  });

  it('keep what was set before the optimizer was wrapped', () => {
    const base = new SGD(convNet(), { lr: 0.1 });
    const group = base.groups[0];
    if (group) group.lr = 0.3;
    expect(new SAM(base).groups[0]?.lr).toBe(0.3);
  });

  it.each([
    ['a negative rate', 'lr', -1],
    ['no number', 'lr', 'x'],
    ['a momentum of Adam', 'momentum', 0.9],
    ['a rho of a plain optimizer', 'rho', 0.1],
  ] as const)('refuse %s', async (_what, key, value) => {
    const [group] = new Adam(convNet()).groups;
    const { code, message } = await errorOf(() => Object.assign(group as object, { [key]: value }));
    expect(code).toBe('ERR_FLATMIN_OPTION');
    expect(message).toContain(key);
  });
});

describe('constructors', () => {
  it.each([
    ['no model', () => new SGD({} as never)],
    ['a wrong option', () => new SGD(convNet(), { learningRate: 1 } as never)],
    ['SAM of a model', () => new SAM(convNet() as never)],
    ['ASAM of SAM', () => new ASAM(new SAM(new SGD(convNet())))],
    ['an unknown preset', () => new ASAM(new SGD(convNet()), { preset: 'papr' as never })],
    ['a negative rho', () => new SAM(new SGD(convNet()), { rho: -1 })],
  ])('refuse %s', async (_what, action) => {
    expect((await errorOf(action)).code).toBe('ERR_FLATMIN_OPTION');
  });

  it('settle the rules by preset and options', () => {
    expect(new SAM(new SGD(convNet())).rules).toMatchObject({ rho: 0.05, scale: 'none' });
    expect(new ASAM(new SGD(convNet()), { preset: 'samsung', rho: 1 }).rules).toMatchObject({
      rho: 1,
      batchNorm: 'both',
      restore: 'subtract',
    });
  });
});

/** Scales the channels of a convolution before batch norm, and the ReLU units of two linear layers, so that the function stays. */
async function rescale(model: Model, factors: readonly number[]): Promise<void> {
  const state = await weightsOf(model);
  const factor = (index: number): number => factors[index % factors.length] as number;
  const scaled = (name: string, scale: (index: number) => number): void => {
    state[name] = (state[name] as number[]).map((value, index) => value * scale(index));
  };
  scaled('0.weight', (index) => factor(Math.floor(index / 9)));
  scaled('0.bias', factor);
  scaled('4.weight', (index) => factor(Math.floor(index / 256)));
  scaled('4.bias', factor);
  scaled('6.weight', (index) => 1 / factor(index % 6));
  const shapes = await model.stateDict();
  const tensors = Object.entries(state).filter(([name]) => !name.endsWith('num_batches_tracked'));
  await model.loadStateDict(
    Object.fromEntries(
      tensors.map(([name, list]) => [name, Tensor.from(Float64Array.from(list), shapes[name]?.shape ?? [])]),
    ),
  );
}
