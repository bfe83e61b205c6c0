// Measures of flatness through the facade: what they give, what they leave behind, how they end early, what they refuse.
// Their mathematics is tested where it lies, in crates/analysis.

import { describe, expect, it } from 'vitest';
import { analysis, datasets, models, SAM, SGD, Tensor } from '../src/index.js';
import { convNet, errorOf, weightsOf } from './support.js';

const digits = () => datasets.digits().take(60);
const demo = () => models.create('demo', { seed: 2 });

describe('sharpness', () => {
  it('grows with the radius, and its worst case is above the mean', async () => {
    using model = demo();
    const rho = [0.02, 0.1];
    const worst = await analysis.sharpness(model, digits(), { rho, steps: 5 });
    const mean = await analysis.sharpness(model, digits(), { rho, method: 'random', draws: 5 });
    expect(worst.count).toBe(60);
    expect(worst.points.map((point) => point.rho)).toEqual(rho);
    const [near, far] = worst.points as [analysis.SharpnessPoint, analysis.SharpnessPoint];
    expect(far.sharpness).toBeGreaterThan(near.sharpness);
    expect(near.sharpness).toBeGreaterThan(mean.points[0]?.sharpness ?? Number.NaN);
    expect(near.sharpness / near.rho / (worst.slope ?? Number.NaN)).toBeCloseTo(1, 0);
    expect(near.loss).toBeCloseTo(worst.loss + near.sharpness, 10);
    expect(near.spread).toMatchObject({ over: 'batches', count: 1, sd: null });
    expect(mean.slope).toBeNull();
    expect(mean.points[0]?.curve).toHaveLength(5);
  });

  it('takes one radius as well as a list, and measures by groups', async () => {
    using model = demo();
    const { points, slope } = await analysis.sharpness(model, digits(), {
      rho: 0.05,
      method: 'oneStep',
      m: 20,
      p: 'inf',
    });
    expect(points).toHaveLength(1);
    expect(slope).toBeNull();
    expect(points[0]?.spread).toMatchObject({ over: 'groups', count: 3 });
  });

  it('is the loss that evaluate gives, at a model that is as it was', async () => {
    using model = demo();
    const before = await weightsOf(model);
    const { loss, accuracy } = await analysis.sharpness(model, digits(), { steps: 2, scale: 'element' });
    const evaluated = await model.evaluate(digits());
    expect(loss).toBeCloseTo(evaluated.loss, 6);
    expect(accuracy).toBeCloseTo(evaluated.accuracy, 12);
    expect(await weightsOf(model)).toEqual(before);
  });
});

describe('hessian', () => {
  it('gives eigenvalues with eigenvectors of the right shapes, and the trace that the density has', async () => {
    using model = demo();
    const found = await analysis.hessian(model, digits(), {
      ...{ topK: 2, iterations: 30, tolerance: 1e-3, vectors: true, traceProbes: 4 },
      density: { probes: 2, steps: 10, points: 50 },
    });
    expect(found.dimensions).toBe(model.parameterCount);
    expect(found.eigenvalues).toHaveLength(2);
    expect(found.eigenvalues[0]?.value).toBeGreaterThan(found.eigenvalues[1]?.value ?? Number.NaN);
    const [vector] = found.vectors;
    const state = await model.stateDict();
    let square = 0;
    for (const [name, tensor] of Object.entries(vector ?? {})) {
      expect(tensor.shape).toEqual(state[name]?.shape);
      for (const value of await tensor.data()) square += Number(value) ** 2;
    }
    expect(square).toBeCloseTo(1, 4);
    expect(found.trace?.probes).toBe(4);
    expect(found.density?.density).toHaveLength(50);
  });
});

describe('landscapes', () => {
  it('go through both models', async () => {
    using one = demo();
    using other = models.create('demo', { seed: 3 });
    const line = await analysis.interpolation(one, other, digits(), { range: [0, 1], points: 3 });
    expect(line.t).toEqual([0, 0.5, 1]);
    expect(line.loss[0]).toBeCloseTo((await one.evaluate(digits())).loss, 6);
    expect(line.loss[2]).toBeCloseTo((await other.evaluate(digits())).loss, 4);
    const same = await analysis.interpolation(one, one, digits(), { points: 2 });
    expect(same.distance).toBe(0);
  });

  it('are grids', async () => {
    using model = demo();
    const { loss, x, y } = await analysis.surface(model, digits(), { points: 3, range: [-0.5, 0.5] });
    expect([x, y]).toEqual([
      [-0.5, 0, 0.5],
      [-0.5, 0, 0.5],
    ]);
    expect(loss[1]?.[1]).toBeCloseTo((await model.evaluate(digits())).loss, 6);
  });
});

it('finds an all-layer margin for each image', async () => {
  using model = demo();
  const { margins, misclassified, layers } = await analysis.allLayerMargin(model, digits().take(10));
  expect(margins).toHaveLength(10);
  expect(layers).toBe(5);
  expect(margins.filter((margin) => margin === 0)).toHaveLength(misclassified);
});

describe('pacBayesBound', () => {
  const measured = (accuracy: number): analysis.Sharpness => {
    const spread = { over: 'batches' as const, count: 2, sd: 0, min: 0, max: 0 };
    const point = { rho: 0.5, sharpness: 1, loss: 1, accuracy, norm: 0.5, curve: [], spread };
    return { loss: 0, accuracy: 1, count: 10_000, slope: 1, parameters: 100, weightNorm: 2, points: [point] };
  };

  it('is the sum of its terms', () => {
    const { value, terms } = analysis.pacBayesBound(measured(0.75), undefined, { delta: 0.1 });
    expect(terms.worstError).toBeCloseTo(0.99 * 0.25, 12);
    expect(terms.tail).toBeCloseTo(0.01, 12);
    // 25 ln(1 + 16 (1 + sqrt(ln 1e4 / 100))^2) and 1/4 + ln 1e5 + 2 ln 60300, by hand.
    expect(terms.divergence).toBeCloseTo(25 * Math.log(1 + 16 * 1.303485 ** 2), 3);
    expect(terms.confidence).toBeCloseTo(0.25 + 11.512925 + 2 * 11.007088, 4);
    expect(value).toBeCloseTo(terms.worstError + terms.tail + terms.complexity, 12);
  });

  it("is ASAM's with a radius of eta rho, and says nothing without an eta", () => {
    const plain = analysis.pacBayesBound(measured(0.75));
    const adaptive = analysis.pacBayesBound(measured(0.75), undefined, { eta: 0.01 });
    expect(adaptive.terms.divergence).toBeGreaterThan(plain.terms.divergence);
    expect(adaptive.assumptions.length).toBe(plain.assumptions.length + 1);
    expect(analysis.pacBayesBound(measured(0.75), undefined, { eta: 0 }).value).toBe(Number.POSITIVE_INFINITY);
  });

  it('wants the worst case over all images', async () => {
    const groups = measured(0.5);
    for (const point of groups.points) point.spread.over = 'groups';
    const { code, message } = await errorOf(() => analysis.pacBayesBound(groups));
    expect(code).toBe('ERR_FLATMIN_OPTION');
    expect(message).toContain('groups');
  });
});

describe('a measurement', () => {
  it('tells its progress', async () => {
    using model = demo();
    const seen: analysis.Progress[] = [];
    await analysis.sharpness(model, digits(), {
      batchSize: 10,
      steps: 3,
      onProgress: (progress) => seen.push(progress),
    });
    expect(seen.length).toBeGreaterThan(0);
    // Seven passes and the gradient at w, over six batches.
    for (const { done, total } of seen) expect([done <= total, total]).toEqual([true, 48]);
  });

  it('ends at an abort signal, with its reason, and the model is as it was', async () => {
    using model = demo();
    const before = await weightsOf(model);
    const controller = new AbortController();
    const reason = new Error('enough');
    const options = {
      batchSize: 1,
      steps: 1000,
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    };
    await expect(analysis.sharpness(model, digits(), options)).rejects.toBe(reason);
    await expect(analysis.hessian(model, digits(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await weightsOf(model)).toEqual(before);
  });

  it('ends with the error of its callback', async () => {
    using model = demo();
    const error = new Error('from the callback');
    const onProgress = () => {
      throw error;
    };
    await expect(analysis.surface(model, digits(), { batchSize: 1, onProgress })).rejects.toBe(error);
  });

  it.each([
    [() => analysis.sharpness({} as never, digits()), 'ERR_FLATMIN_OPTION', /expected a Model/],
    [() => analysis.sharpness(demo(), [] as never), 'ERR_FLATMIN_OPTION', /expected a Dataset/],
    [() => analysis.sharpness(demo(), digits(), { rho: 0 }), 'ERR_FLATMIN_OPTION', /'rho'.*0/],
    [() => analysis.sharpness(demo(), digits(), { rh: 1 } as never), 'ERR_FLATMIN_OPTION', /did you mean 'rho'/],
    [() => analysis.sharpness(demo(), digits(), { p: 1 }), 'ERR_FLATMIN_OPTION', /'p'/],
    [() => analysis.sharpness(demo(), digits(), { signal: 1 as never }), 'ERR_FLATMIN_OPTION', /AbortSignal/],
    [() => analysis.hessian(demo(), digits(), { density: { probes: 0 } }), 'ERR_FLATMIN_OPTION', /probes/],
    [() => analysis.surface(demo(), digits(), { range: [1, -1] }), 'ERR_FLATMIN_OPTION', /lower one first/],
    [() => analysis.interpolation(demo(), convNet(), digits()), 'ERR_FLATMIN_OPTION', /other layers/],
    [() => analysis.trajectory(demo(), ['/nowhere', '/never'], digits()), 'ERR_FLATMIN_PATH', /nowhere/],
    [() => analysis.sharpness(convNet(), digits()), 'ERR_FLATMIN_DATA', /10 classes/],
    [() => analysis.sharpness(models.create('demo', { dtype: 'bfloat16' }), digits()), 'ERR_FLATMIN_DTYPE', /float32/],
  ] as [() => Promise<unknown>, string, RegExp][])('%s is refused', async (action, code, message) => {
    const error = await errorOf(action);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  it('is refused while the model is between ascent and descent, and when it was disposed of', async () => {
    const model = convNet({ dtype: 'float64' });
    const optimizer = new SAM(new SGD(model, { lr: 0.1 }), { rho: 0.1 });
    const images = Tensor.from(new Float64Array(2 * 64).fill(0.3), [2, 1, 8, 8], { dtype: 'float64' });
    await model.backward({ images, labels: [0, 1] });
    await optimizer.ascentStep();
    const pixels = new Float32Array(2 * 64).fill(0.3);
    const set = datasets.fromArrays({ images: pixels, labels: [0, 1], shape: [8, 8, 1], numClasses: 3 });
    expect((await errorOf(() => analysis.sharpness(model, set))).code).toBe('ERR_FLATMIN_STEP_ORDER');
    model.dispose();
    expect((await errorOf(() => analysis.sharpness(model, set))).code).toBe('ERR_FLATMIN_DISPOSED');
  });
});
