// TorchScript modules through the facade: trained, measured, saved and opened again.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ASAM, datasets, layers, Model, SGD, Tensor, Trainer } from '../src/index.js';
import { uniform } from './goldens/formula.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf, weightsOf } from './support.js';

const file = fileURLToPath(new URL('fixtures/small-script.pt', import.meta.url));
const inputShape = [2, 4, 4] as [number, number, number];

const folder = temporaryFolder('script');

const pixels = Uint8Array.from(uniform('script', 24 * 32), (value) => 127 * (value + 1));
const images = datasets.fromArrays({
  images: pixels,
  labels: Array.from({ length: 24 }, (_, i) => i % 2),
  shape: [4, 4, 2],
});

describe('Model.fromTorchScript', () => {
  it('gives a model that a Trainer trains with ASAM and that comes back from its own file', async () => {
    const model = await Model.fromTorchScript(file, { inputShape, classNames: ['a', 'b'] });
    expect([model.name, model.numClasses, model.parameterCount]).toEqual(['small-script', 2, 72 + 8 + 34]);
    expect(String(model.summary())).toMatch(/torchScript/);
    const before = await weightsOf(model);
    const optimizer = new ASAM(new SGD(model, { lr: 0.05, momentum: 0.9 }), { rho: 0.5 });
    const trainer = new Trainer({
      model,
      optimizer,
      train: images,
      test: images,
      epochs: 3,
      batchSize: 8,
      runDir: join(folder, 'run'),
    });
    const { result } = await trainer.fit();
    expect(result.steps).toBe(9);
    const after = await weightsOf(model);
    for (const name of Object.keys(before)) expect(after[name], name).not.toEqual(before[name]);

    const saved = join(folder, 'trained.pt');
    await model.save(saved);
    const back = await Model.fromTorchScript(saved, { inputShape });
    expect(await weightsOf(back)).toEqual(after);
    const input = Tensor.from(Float32Array.from(uniform('input', 32)), [1, 2, 4, 4]);
    expect(await (await back.forward(input)).data()).toEqual(await (await model.forward(input)).data());

    const other = await Model.fromTorchScript(file, { inputShape });
    await other.loadWeights(join(folder, 'run/checkpoints/last/model.safetensors'));
    expect(await weightsOf(other)).toEqual(after);
  });

  it('reads state dicts of the same net', async () => {
    const model = await Model.fromTorchScript(file, { inputShape, dtype: 'float64', numClasses: 2 });
    await model.loadWeights(fileURLToPath(new URL('fixtures/two.pt', import.meta.url)), { key: 'teacher' });
    const original = await weightsOf(await Model.fromTorchScript(file, { inputShape, dtype: 'float64' }));
    expect((await weightsOf(model))['conv.weight']).toEqual(original['conv.weight']?.map((value) => 2 * value));
  });

  it.each([
    ['no input shape', () => Model.fromTorchScript(file, {} as never), 'ERR_FLATMIN_OPTION', 'inputShape'],
    [
      'another input shape',
      () => Model.fromTorchScript(file, { inputShape: [3, 4, 4] }),
      'ERR_FLATMIN_FORMAT',
      'inputShape',
    ],
    ['other classes', () => Model.fromTorchScript(file, { inputShape, numClasses: 5 }), 'ERR_FLATMIN_SHAPE', '[2, 5]'],
    [
      'a state dict',
      () => Model.fromTorchScript(fileURLToPath(new URL('fixtures/small.pt', import.meta.url)), { inputShape }),
      'ERR_FLATMIN_FORMAT',
      'no TorchScript',
    ],
    [
      'a file that is not there',
      () => Model.fromTorchScript('absent.pt', { inputShape }),
      'ERR_FLATMIN_PATH',
      'absent.pt',
    ],
    [
      'a new head',
      async () => (await Model.fromTorchScript(file, { inputShape })).replace('fc', layers.linear(3)),
      'ERR_FLATMIN_OPTION',
      'TorchScript',
    ],
  ])('refuses %s', async (_what, action, code, message) => {
    expect(await errorOf(action)).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});
