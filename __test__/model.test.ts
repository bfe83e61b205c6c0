// Model: specs, passes, weights in and out, predictions.

import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ASAM, datasets, layers, Model, models, SGD, Tensor } from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { convBatch, convNet, errorOf, expectClose, linearNet, numbersOf, weightsOf } from './support.js';

/** A gray image of 8 x 8 pixels. */
const grayPng =
  'iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAU0lEQVR42gFIALf/AAAgQGCAoMDgAAQkRGSEpMTkAAgoSGiIqMjoAAwsTGyMrMzsABAwUHCQsNDwABQ0VHSUtNT0ABg4WHiYuNj4ABw8XHycvNz8FUQfgXGwCFQAAAAASUVORK5CYII=';

const folder = temporaryFolder('model');

describe('Model.sequential', () => {
  it("gives parameters PyTorch's names and shapes", async () => {
    const model = convNet();
    const shapes = Object.entries(await model.stateDict()).map(([name, tensor]) => `${name} ${tensor.shape.join('x')}`);
    expect(shapes.sort()).toEqual([
      '0.bias 4',
      '0.weight 4x1x3x3',
      '1.bias 4',
      '1.num_batches_tracked ',
      '1.running_mean 4',
      '1.running_var 4',
      '1.weight 4',
      '5.bias 3',
      '5.weight 3x64',
    ]);
    expect(model.parameterCount).toBe(4 * 9 + 4 + 4 + 4 + 3 * 64 + 3);
  });

  it('knows its number of classes from options, class names or the last linear layer', () => {
    const list = [layers.flatten(), layers.linear(4)];
    expect(Model.sequential(list, { inputShape: [1, 2, 2] }).numClasses).toBe(4);
    expect(Model.sequential(list, { inputShape: [1, 2, 2], classNames: ['a', 'b', 'c', 'd'] }).classNames).toEqual([
      'a',
      'b',
      'c',
      'd',
    ]);
  });

  it('takes tokens, attention and gates, and steps them sharpness-aware', async () => {
    const model = Model.sequential(
      [
        layers.conv2d(8, 2, { stride: 2, name: 'patches' }),
        layers.residual([layers.squeezeExcitation(8, 2, { name: 'se' })], { activation: 'none' }),
        layers.toTokens(),
        layers.classToken({ name: 'cls_token' }),
        layers.positionEmbedding({ name: 'pos_embed' }),
        layers.residual(
          [
            layers.layerNorm(),
            layers.selfAttention(2, { name: 'attn' }),
            layers.layerScale({ name: 'scale' }),
            layers.stochasticDepth(0.5),
          ],
          { name: '', activation: 'none' },
        ),
        layers.residual([layers.linear(16), layers.gelu(), layers.linear(8)], { activation: 'none' }),
        layers.tokenPool('mean'),
        layers.linear(3),
      ],
      { inputShape: [1, 4, 4] },
    );
    expect(Object.keys(await model.stateDict())).toEqual(
      expect.arrayContaining(['1.se.fc1.weight', 'cls_token', 'pos_embed', 'attn.qkv.weight', '6.2.bias', '8.weight']),
    );
    const images = Tensor.from(
      Float32Array.from({ length: 64 }, (_, index) => Math.sin(index)),
      [4, 1, 4, 4],
    );
    const optimizer = new ASAM(
      new SGD(model, { lr: 0.1, groups: [{ kinds: ['embedding', 'layerScale'], weightDecay: 0 }] }),
    );
    const step = await optimizer.step({ images, labels: [0, 1, 2, 0] });
    expect(step.perturbedLoss).toBeGreaterThan(step.loss);
  });

  it('takes branches, joined, added or mixed', async () => {
    const narrow = (channels: number, name: string) => layers.conv2d(channels, 1, { name, bias: false });
    const model = Model.sequential(
      [
        layers.concat([[], [layers.batchNorm2d(), layers.relu6(), narrow(2, 'conv')]], { name: 'dense' }),
        layers.residual([layers.shakeShake([[narrow(4, 'a')], [narrow(4, 'b')]]), layers.shakeDrop()], {
          shared: [layers.relu()],
          shortcut: { layers: [layers.zeroPad({ channels: 1 })] },
          activation: 'none',
        }),
        layers.sum([[], [layers.relu()], [layers.sequential([])]]),
        layers.globalAvgPool2d(),
        layers.flatten(),
      ],
      { inputShape: [1, 4, 4], numClasses: 4 },
    );
    expect(Object.keys(await model.stateDict())).toEqual(
      expect.arrayContaining(['dense.0.weight', 'dense.conv.weight', '1.1.a.weight', '1.1.b.weight']),
    );
    const logits = await model.forward(Tensor.from(new Float32Array(32), [2, 1, 4, 4]));
    expect(logits.shape).toEqual([2, 4]);
    expect(await model.backward({ images: Tensor.from(new Float32Array(32), [2, 1, 4, 4]), labels: [0, 1] })).toBe(
      Math.fround(Math.log(4)),
    );
  });

  it('sums itself up', () => {
    const summary = convNet().summary();
    expect(summary.parameters).toBe(convNet().parameterCount);
    expect(summary.layers.reduce((total, layer) => total + layer.parameters, 0)).toBe(summary.parameters);
    expect(summary.layers.reduce((total, layer) => total + layer.macs, 0)).toBe(summary.macs);
    expect(summary.activationBytes(8)).toBe(8 * summary.activationBytes(1));
    expect(String(summary)).toMatch(/conv2d/);
  });

  it('has weights that depend on the seed alone', async () => {
    expect(await weightsOf(convNet({ seed: 1 }))).toEqual(await weightsOf(convNet({ seed: 1 })));
    expect(await weightsOf(convNet({ seed: 1 }))).not.toEqual(await weightsOf(convNet({ seed: 2 })));
  });

  it.each([
    [
      'a layer that is none',
      () => Model.sequential([{ type: 'lstm' } as never], { inputShape: [1, 2, 2] }),
      'ERR_FLATMIN_OPTION',
      'lstm',
    ],
    ['no input shape', () => Model.sequential([layers.linear(2)], {} as never), 'ERR_FLATMIN_OPTION', 'inputShape'],
    [
      'layers without classes',
      () => Model.sequential([layers.relu()], { inputShape: [1, 2, 2] }),
      'ERR_FLATMIN_OPTION',
      'number of classes',
    ],
    [
      'a kernel larger than the image',
      () => Model.sequential([layers.conv2d(2, 5), layers.flatten(), layers.linear(2)], { inputShape: [1, 3, 3] }),
      'ERR_FLATMIN_SHAPE',
      '',
    ],
    [
      'a single branch',
      () => Model.sequential([layers.concat([[]])], { inputShape: [1, 2, 2], numClasses: 1 }),
      'ERR_FLATMIN_OPTION',
      'branches',
    ],
    [
      'class names that do not fit',
      () => convNet({ numClasses: 3, classNames: ['a'] }),
      'ERR_FLATMIN_OPTION',
      'classNames',
    ],
    ['an unknown model', () => models.create('resnet21'), 'ERR_FLATMIN_NAME', "did you mean 'resnet20'?"],
  ])('refuses %s', async (_what, action, code, message) => {
    expect(await errorOf(action)).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe('models', () => {
  it('has a function for each name', () => {
    const functions = models as unknown as Record<string, (options?: object) => Model>;
    for (const name of models.names()) expect(functions[name], name).toBeTypeOf('function');
    expect(functions['densenet_bc_100_12']?.({ numClasses: 7 })).toMatchObject({ numClasses: 7 });
  });

  it('tells what a model is made of without making it', () => {
    const options = { numClasses: 7, inputShape: [3, 16, 16] as [number, number, number], dtype: 'bfloat16' as const };
    using model = models.create('wrn16_8', options);
    const summary = models.summary('wrn16_8', options);
    expect(summary).toEqual(model.summary());
    expect(summary.activationBytes(3)).toBe(model.summary().activationBytes(3));
    expect(models.spec('wrn16_8', options)).toEqual(model.spec);
  });

  it('lists what it can create', () => {
    expect(models.names()).toEqual(
      expect.arrayContaining(['resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110', 'demo']),
    );
  });

  it('has a ResNet-20 with the parameters of He et al. (0.27 M) and the wanted classes', () => {
    expect(models.resnet20().parameterCount).toBe(269_722);
    const model = models.resnet20({ numClasses: 100 });
    expect([model.numClasses, model.inputShape, model.parameterCount]).toEqual([100, [3, 32, 32], 269_722 + 90 * 65]);
  });
});

describe('forward and backward', () => {
  it('compute a linear layer and the gradient of its cross-entropy', async () => {
    const model = linearNet(2, 3);
    const weight = [1, -2, 0.5, 3, 0, 1];
    const bias = [0.1, 0.2, 0.3];
    await model.loadStateDict({
      '1.weight': Tensor.from(Float64Array.from(weight), [3, 2]),
      '1.bias': Tensor.from(Float64Array.from(bias)),
    });
    const images = Tensor.from(Float64Array.of(2, 1), [1, 1, 1, 2]);
    const logits = await (await model.forward(images)).data();
    const expected = [0, 1, 2].map(
      (row) => 2 * (weight[2 * row] as number) + (weight[2 * row + 1] as number) + (bias[row] as number),
    );
    expectClose(logits, expected, 12);

    const exponentials = expected.map(Math.exp);
    const total = exponentials.reduce((sum, value) => sum + value, 0);
    const loss = await model.backward({ images, labels: [1] });
    expect(loss).toBeCloseTo(Math.log(total) - (expected[1] as number), 12);
    const gradient = (await model.gradient('1.bias')?.data()) ?? [];
    expectClose(
      gradient,
      exponentials.map((value, index) => value / total - (index === 1 ? 1 : 0)),
      12,
    );
  });

  it('add gradients up until a step', async () => {
    const model = linearNet(4, 2);
    const batch = { images: Tensor.from(Float64Array.of(1, 2, 3, 4), [1, 1, 1, 4]), labels: [0] };
    await model.backward(batch);
    const once = Array.from((await model.gradient('1.weight')?.data()) as Float64Array);
    await model.backward(batch);
    const twice = Array.from((await model.gradient('1.weight')?.data()) as Float64Array);
    expectClose(
      twice,
      once.map((value) => 2 * value),
    );
    await new SGD(model, { lr: 0.1 }).step();
    expect(model.gradient('1.weight')).toBeNull();
  });

  it('do not move the running statistics in forward, not even with batch statistics', async () => {
    const model = convNet();
    const before = await weightsOf(model);
    const { images } = convBatch(0);
    const evaluating = await (await model.forward(images)).data();
    const training = await (await model.forward(images, { train: true })).data();
    expect(training).not.toEqual(evaluating);
    expect(await weightsOf(model)).toEqual(before);
  });

  it.each([
    ['images that are no tensor', (model: Model) => model.forward([1, 2] as never), 'ERR_FLATMIN_OPTION'],
    [
      'images of another shape',
      (model: Model) => model.forward(Tensor.from(new Float32Array(9), [1, 1, 3, 3])),
      'ERR_FLATMIN_SHAPE',
    ],
    ['a batch that is none', (model: Model) => model.backward(undefined as never), 'ERR_FLATMIN_OPTION'],
    [
      'labels out of range',
      (model: Model) => model.backward({ ...convBatch(0), labels: [0, 1, 2, 3, 4, 5] }),
      'ERR_FLATMIN_DATA',
    ],
    ['too few labels', (model: Model) => model.backward({ ...convBatch(0), labels: [0] }), 'ERR_FLATMIN_SHAPE'],
    [
      'labels that are fractions',
      (model: Model) => model.backward({ ...convBatch(0), labels: [0.5, 0, 0, 0, 0, 0] }),
      'ERR_FLATMIN_DTYPE',
    ],
    [
      'an unknown loss',
      (model: Model) => model.backward(convBatch(0), { loss: 'hinge' as never }),
      'ERR_FLATMIN_OPTION',
    ],
    ['a gradient of an unknown name', (model: Model) => model.gradient('fc.weight'), 'ERR_FLATMIN_NAME'],
  ])('refuse %s', async (_what, action, code) => {
    expect((await errorOf(() => action(convNet()))).code).toBe(code);
  });
});

describe('save and load', () => {
  it('carry layers, weights, class names and normalisation', async () => {
    const model = convNet({ classNames: ['a', 'b', 'c'] });
    model.normalization = { mean: [0.25], std: [0.5] };
    const file = join(folder, 'model.safetensors');
    await model.save(file);
    expect(await readdir(folder)).toEqual(['model.safetensors']);
    const loaded = await Model.load(file);
    expect(loaded.spec).toEqual(model.spec);
    expect(await weightsOf(loaded)).toEqual(await weightsOf(model));
    const { images } = convBatch(1);
    expect(await loaded.predict(images)).toEqual(await model.predict(images));
  });

  it('load weights into a model of another seed', async () => {
    const file = join(folder, 'weights.safetensors');
    await convNet({ seed: 1 }).save(file);
    const other = convNet({ seed: 2 });
    expect(await other.loadWeights(file)).toEqual({ missing: [], unexpected: [], mismatched: [] });
    expect(await weightsOf(other)).toEqual(await weightsOf(convNet({ seed: 1 })));
  });

  it.each([
    ['a file that is not there', (path: string) => Model.load(join(path, 'none.safetensors')), 'ERR_FLATMIN_PATH'],
    [
      'a file that is no safetensors',
      async (path: string) => {
        await writeFile(join(path, 'text'), 'hello world, this is text');
        await Model.load(join(path, 'text'));
      },
      'ERR_FLATMIN_FORMAT',
    ],
    ['a path that is none', () => Model.load(7 as never), 'ERR_FLATMIN_OPTION'],
    ['a folder that is not there', (path: string) => convNet().save(join(path, 'no', 'where')), 'ERR_FLATMIN_PATH'],
  ])('refuse %s', async (_what, action, code) => {
    expect((await errorOf(() => action(folder))).code).toBe(code);
  });
});

describe('state dicts', () => {
  it('that do not fit change nothing', async () => {
    const model = convNet();
    const before = await weightsOf(model);
    const state = await convNet({ seed: 9 }).stateDict();
    const wrong = { ...state, '5.weight': Tensor.from(new Float32Array(4), [2, 2]) };
    expect(await errorOf(() => model.loadStateDict(wrong))).toMatchObject({
      code: 'ERR_FLATMIN_SHAPE',
      message: expect.stringContaining('5.weight'),
    });
    expect(await weightsOf(model)).toEqual(before);
  });

  it('report missing and unexpected names, and refuse them when strict', async () => {
    const model = convNet();
    const { '0.bias': bias, ...rest } = await convNet({ seed: 9 }).stateDict();
    const state = { ...rest, extra: bias as Tensor };
    expect(await model.loadStateDict(state, { strict: false })).toEqual({
      missing: ['0.bias'],
      unexpected: ['extra'],
      mismatched: [],
    });
    expect((await errorOf(() => model.loadStateDict(state))).code).toBe('ERR_FLATMIN_NAME');
    expect((await errorOf(() => model.loadStateDict({ x: 1 } as never))).code).toBe('ERR_FLATMIN_OPTION');
  });

  it('are copies', async () => {
    const model = convNet();
    const state = await model.stateDict();
    const before = await numbersOf(state);
    await model.backward(convBatch(0));
    await new SGD(model).step();
    expect(await numbersOf(state)).toEqual(before);
    expect(await weightsOf(model)).not.toEqual(before);
  });
});

describe('predict', () => {
  it('gives the softmax of the logits of normalised pixels, best first', async () => {
    const model = convNet({ classNames: ['a', 'b', 'c'], normalization: { mean: [0.5], std: [0.25] } });
    const pixels = Float32Array.from({ length: 64 }, (_, index) => index / 64);
    const logits = await (
      await model.forward(
        Tensor.from(
          pixels.map((value) => (value - 0.5) / 0.25),
          [1, 1, 8, 8],
        ),
      )
    ).data();
    const exponentials = Array.from(logits, Number).map(Math.exp);
    const total = exponentials.reduce((sum, value) => sum + value, 0);
    const [guesses] = await model.predict(Tensor.from(pixels, [1, 1, 8, 8]), { topK: 3 });
    expect(guesses?.map((guess) => guess.name).sort()).toEqual(['a', 'b', 'c']);
    for (const [index, guess] of (guesses ?? []).entries()) {
      expect(guess.name).toBe('abc'[guess.label]);
      expect(guess.probability).toBeCloseTo((exponentials[guess.label] as number) / total, 5);
      if (index > 0) expect(guess.probability).toBeLessThanOrEqual(guesses?.[index - 1]?.probability as number);
    }
  });

  it('reads image files; one file gives one list', async () => {
    const file = join(folder, 'image.png');
    await writeFile(file, Buffer.from(grayPng, 'base64'));
    const model = convNet();
    const [guess, ...others] = await model.predict(file);
    expect(others).toEqual([]);
    const lists = await model.predict([file, file]);
    expect(lists.map((list) => list.map(({ label }) => label))).toEqual([[guess?.label], [guess?.label]]);
    expectClose(
      lists.flat().map(({ probability }) => probability),
      [guess?.probability, guess?.probability] as number[],
      5,
    );
  });

  it.each([
    ['a file that is not there', (model: Model) => model.predict('none.png'), 'ERR_FLATMIN_PATH'],
    ['no files', (model: Model) => model.predict([]), 'ERR_FLATMIN_OPTION'],
    ['a wrong topK', (model: Model) => model.predict(convBatch(0).images, { topK: 0 }), 'ERR_FLATMIN_OPTION'],
  ])('refuses %s', async (_what, action, code) => {
    expect((await errorOf(() => action(convNet()))).code).toBe(code);
  });
});

describe('evaluate', () => {
  it('does not depend on the batch size, and counts every image', async () => {
    const model = models.demo({ seed: 1, dtype: 'float64' });
    const digits = datasets.digits().take(70);
    const whole = await model.evaluate(digits, { batchSize: 70, metrics: ['ece', 'confusionMatrix'] });
    const parts = await model.evaluate(digits, { batchSize: 33 });
    expect(whole.count).toBe(70);
    expect(parts.loss).toBeCloseTo(whole.loss, 10);
    expect(parts.accuracy).toBe(whole.accuracy);
    expect(whole.confusionMatrix?.flat().reduce((sum, count) => sum + count, 0)).toBe(70);
    const right = whole.confusionMatrix?.reduce((sum, row, label) => sum + (row[label] as number), 0) as number;
    expect(right / 70).toBeCloseTo(whole.accuracy, 12);
    expect(whole.ece).toBeGreaterThanOrEqual(0);
    expect((await model.evaluate(digits, { limit: 7 })).count).toBe(7);
  });

  it('averages the logits of images and their mirrors', async () => {
    const normalization = { mean: [0.5], std: [0.25] };
    const model = models.demo({ seed: 1, dtype: 'float64', normalization });
    const shape: [number, number, number] = [8, 8, 1];
    const labels = Array.from({ length: 20 }, (_, index) => index % 10);
    const pixel = (image: number, y: number, x: number) => (image * 97 + y * 31 + x * x * 13) % 256;
    const set = (place: (x: number) => number) => {
      const at = (index: number) => pixel(index >> 6, (index >> 3) & 7, place(index & 7));
      const images = Uint8Array.from({ length: 20 * 64 }, (_, index) => at(index));
      return datasets.fromArrays({ images, labels, shape });
    };
    const [given, turned, even] = [set((x) => x), set((x) => 7 - x), set((x) => Math.min(x, 7 - x))];
    const loss = async (data: typeof given, mirror: boolean) => (await model.evaluate(data, { mirror })).loss;
    const [one, other] = [await loss(given, false), await loss(turned, false)];
    expect(one).not.toBeCloseTo(other, 4);
    expect(await loss(given, true)).toBeCloseTo(await loss(turned, true), 10);
    // The loss of a mean of logits is at most the mean of the losses.
    expect(await loss(given, true)).toBeLessThan((one + other) / 2);
    expect(await loss(even, true)).toBeCloseTo(await loss(even, false), 10);
  });

  it('refuses what is no data set, and one of other images', async () => {
    expect((await errorOf(() => convNet().evaluate({} as never))).code).toBe('ERR_FLATMIN_OPTION');
    const other = datasets.fromArrays({ images: new Uint8Array(27), labels: [0], shape: [3, 3, 3] });
    expect((await errorOf(() => convNet().evaluate(other))).code).toBe('ERR_FLATMIN_SHAPE');
  });
});

describe('dispose', () => {
  it('may be called twice; any use after it is an error', async () => {
    const model = convNet();
    model.dispose();
    await model[Symbol.asyncDispose]();
    expect(await errorOf(() => model.parameterCount)).toMatchObject({ code: 'ERR_FLATMIN_DISPOSED' });
    expect((await errorOf(() => new SGD(model).step(convBatch(0)))).code).toBe('ERR_FLATMIN_DISPOSED');
  });
});
