// Weights of PyTorch in and out, frozen parts and new heads: the facade over fixtures that `fixtures/make_weights.py` made.

import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ASAM, layers, Model, models, SGD } from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { convBatch, convNet, errorOf, weightsOf } from './support.js';

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

const nothing = { missing: [], unexpected: [], mismatched: [] };

/** The net of the fixtures. */
function small(seed = 0): Model {
  const list = [
    layers.conv2d(4, 3, { name: 'conv', bias: false }),
    layers.batchNorm2d({ name: 'bn' }),
    layers.relu(),
    layers.flatten(),
    layers.linear(2, { name: 'fc' }),
  ];
  return Model.sequential(list, { inputShape: [2, 4, 4], seed });
}

const folder = temporaryFolder('weights');

describe('loadWeights', () => {
  it.each(['small.pt', 'small-legacy.pt', 'shared.pt', 'parameters.pt', 'checkpoint.pt'])('reads %s', async (name) => {
    const [model, expected] = [small(1), small(2)];
    expect(await model.loadWeights(fixture(name))).toEqual(nothing);
    await expected.loadWeights(fixture('small.safetensors'));
    expect(await weightsOf(model)).toEqual(await weightsOf(expected));
  });

  it('takes a key, a prefix and a map', async () => {
    const model = small();
    expect(
      await model.loadWeights(fixture('two.pt'), { key: 'teacher', map: { 'fc.bias': null }, strict: false }),
    ).toEqual({
      ...nothing,
      missing: ['fc.bias'],
    });
    expect(await model.loadWeights(fixture('checkpoint.pt'), { prefix: 'module.' })).toEqual(nothing);
    const report = await model.loadWeights(fixture('small.pt'), { map: { 'fc.*': 'head.*' }, strict: false });
    expect(report).toEqual({ ...nothing, missing: ['fc.weight', 'fc.bias'], unexpected: ['fc.weight', 'fc.bias'] });
  });

  it('reports other shapes, and keeps the model own values there', async () => {
    const wide = Model.sequential(
      [
        layers.conv2d(4, 3, { name: 'conv', bias: false }),
        layers.batchNorm2d({ name: 'bn' }),
        layers.flatten(),
        layers.linear(3, { name: 'fc' }),
      ],
      { inputShape: [2, 4, 4], seed: 4 },
    );
    const before = await weightsOf(wide);
    expect(await wide.loadWeights(fixture('small.pt'), { strict: false })).toEqual({
      ...nothing,
      mismatched: [
        { name: 'fc.weight', found: [2, 16], expected: [3, 16] },
        { name: 'fc.bias', found: [2], expected: [3] },
      ],
    });
    const after = await weightsOf(wide);
    expect(after['fc.weight']).toEqual(before['fc.weight']);
    expect(after['conv.weight']).not.toEqual(before['conv.weight']);
  });

  const cut = async (name: string, bytes: number) => {
    const path = join(folder, `cut-${bytes}-${name}`);
    await writeFile(path, await readFile(fixture(name)));
    await truncate(path, bytes);
    return path;
  };

  it.each([
    ['a pickle that runs a command', () => fixture('command.pt'), 'ERR_FLATMIN_FORMAT', "'posix.system'"],
    ['the same in the old format', () => fixture('command-legacy.pt'), 'ERR_FLATMIN_FORMAT', "'posix.system'"],
    ['a whole module', () => fixture('whole-module.pt'), 'ERR_FLATMIN_FORMAT', 'Sequential'],
    ['TorchScript', () => fixture('small-script.pt'), 'ERR_FLATMIN_FORMAT', 'fromTorchScript'],
    ['two state dicts', () => fixture('two.pt'), 'ERR_FLATMIN_OPTION', 'student, teacher'],
    ['an empty file', () => cut('small.pt', 0), 'ERR_FLATMIN_FORMAT', '0 bytes'],
    ['a truncated file', () => cut('small.pt', 2000), 'ERR_FLATMIN_FORMAT', 'cut off'],
    ['a truncated old file', () => cut('small-legacy.pt', 1500), 'ERR_FLATMIN_FORMAT', 'cut off'],
    ['truncated safetensors', () => cut('small.safetensors', 900), 'ERR_FLATMIN_FORMAT', '900 bytes'],
    ['no file', () => join(folder, 'absent.pt'), 'ERR_FLATMIN_PATH', 'absent.pt'],
  ])('refuses %s and changes nothing', async (_what, path, code, message) => {
    const model = small(3);
    const before = await weightsOf(model);
    expect(await errorOf(async () => model.loadWeights(await path()))).toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
    expect(await weightsOf(model)).toEqual(before);
  });

  it.each([
    ['an unknown option', { strikt: false }, "did you mean 'strict'"],
    ['a map to a number', { map: { a: 1 } }, 'map'],
    ['a prefix of no name', { prefix: 'encoder.' }, "'encoder.'"],
    ['a map of no name', { map: { 'encoder.*': 'fc.*' } }, "'encoder.*'"],
  ])('refuses %s', async (_what, options, message) => {
    expect(await errorOf(() => small().loadWeights(fixture('small.pt'), options as never))).toMatchObject({
      code: 'ERR_FLATMIN_OPTION',
      message: expect.stringContaining(message),
    });
  });
});

describe('save as .pt', () => {
  it('comes back as a model, and its spec alone too', async () => {
    const file = join(folder, 'model.pt');
    const model = convNet({ classNames: ['a', 'b', 'c'] });
    await model.save(file);
    expect(Model.specIn(file)).toEqual(model.spec);
    const loaded = await Model.load(file);
    expect([loaded.spec, await weightsOf(loaded)]).toEqual([model.spec, await weightsOf(model)]);
    expect(Model.specIn(fixture('small.pt'))).toBeNull();
  });
});

describe('freeze', () => {
  it('keeps what it names through ASAM steps, statistics included', async () => {
    const model = convNet();
    model.freeze(['0.*', '1.*']);
    expect(model.frozen).toEqual([
      '0.weight',
      '0.bias',
      ...['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'].map((name) => `1.${name}`),
    ]);
    const before = await weightsOf(model);
    const optimizer = new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 0.01 }), { rho: 0.5 });
    for (let step = 0; step < 3; step += 1) await optimizer.step(convBatch(step));
    const after = await weightsOf(model);
    for (const name of Object.keys(before)) {
      if (model.frozen.includes(name)) expect(after[name], name).toEqual(before[name]);
      else expect(after[name], name).not.toEqual(before[name]);
    }
    model.unfreeze();
    expect(model.frozen).toEqual([]);
    await optimizer.step(convBatch(3));
    expect((await weightsOf(model))['0.weight']).not.toEqual(before['0.weight']);
  });

  it.each([
    ['a name of nothing', 'layer1.*'],
    ['everything', '*'],
    ['no pattern', []],
  ])('refuses %s', async (_what, patterns) => {
    expect((await errorOf(() => convNet().freeze(patterns))).code).toBe('ERR_FLATMIN_OPTION');
  });
});

describe('replace', () => {
  it('gives a copy with a new head under the old name', async () => {
    const model = models.resnet20({ numClasses: 10, seed: 1 });
    const head = (await model.stateDict().then(Object.keys)).at(-1)?.split('.')[0] as string;
    const tuned = await model.replace(head, layers.linear(5), { seed: 2 });
    expect([tuned.numClasses, model.numClasses]).toEqual([5, 10]);
    const [before, after] = [await weightsOf(model), await weightsOf(tuned)];
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(after['conv1.weight']).toEqual(before['conv1.weight']);
    expect(after[`${head}.bias`]).toHaveLength(5);
  });

  it('refuses a layer that is not there or does not fit', async () => {
    expect(await errorOf(() => small().replace('head', layers.linear(2)))).toMatchObject({
      code: 'ERR_FLATMIN_NAME',
      message: expect.stringContaining('fc'),
    });
    expect((await errorOf(() => small().replace('fc', layers.relu()))).code).toBe('ERR_FLATMIN_SHAPE');
    expect((await errorOf(() => small().replace('fc', { type: 'lstm' } as never))).code).toBe('ERR_FLATMIN_OPTION');
  });
});
