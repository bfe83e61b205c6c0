// Models that compute in bfloat16, as users see them: training, what rounding did to a perturbation, float32 in files and outputs.

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ASAM, datasets, Model, SAM, SGD, Trainer } from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { convBatch, convNet, expectClose } from './support.js';

const folder = temporaryFolder('bfloat16');

it('logits are float32 and near those of a float32 model', async () => {
  const [wide, half] = [convNet(), convNet({ dtype: 'bfloat16' })];
  expect(half.dtype).toBe('bfloat16');
  const { images } = convBatch(1);
  const [expected, found] = await Promise.all([wide.forward(images), half.forward(images)]);
  expect(found.dtype).toBe('float32');
  expectClose(Array.from(await found.data(), Number), Array.from(await expected.data(), Number), 1);
});

it('a step tells what rounding made of the perturbation', async () => {
  const optimizer = new SAM(new SGD(convNet({ dtype: 'bfloat16' }), { lr: 0.05 }), { rho: 0.05 });
  for (let number = 0; number < 3; number += 1) {
    const { rounding, finite } = await optimizer.step(convBatch(number, { count: 16 }));
    expect(finite).toBe(true);
    expect(rounding?.cosine).toBeGreaterThan(0);
    expect((rounding?.ratio ?? 0) * (rounding?.cosine ?? 0)).toBeGreaterThan(0.5);
  }
  const plain = new SAM(new SGD(convNet(), { lr: 0.05 }), { rho: 0.05 });
  expect((await plain.step(convBatch(0))).rounding).toBeNull();
});

it('files hold float32 masters, whatever the model computes in', async () => {
  const half = convNet({ dtype: 'bfloat16' });
  const path = join(folder, 'half.safetensors');
  await half.save(path);
  const [wide, again] = await Promise.all([Model.load(path), Model.load(path, { dtype: 'bfloat16' })]);
  expect([wide.dtype, again.dtype]).toEqual(['float32', 'bfloat16']);
  const [expected, found] = await Promise.all([convNet().stateDict(), wide.stateDict()]);
  for (const [name, tensor] of Object.entries(expected)) {
    expect(await found[name]?.data(), name).toEqual(await tensor.data());
  }
});

it('a run trains, evaluates and predicts', async () => {
  const digits = datasets.digits();
  const model = Model.sequential(
    [
      { type: 'conv2d', outChannels: 16, kernelSize: 3, padding: 1, bias: false },
      { type: 'batchNorm2d' },
      { type: 'relu' },
      { type: 'conv2d', outChannels: 32, kernelSize: 3, stride: 2, padding: 1, bias: false },
      { type: 'batchNorm2d' },
      { type: 'relu' },
      { type: 'globalAvgPool2d' },
      { type: 'flatten' },
      { type: 'linear', outFeatures: 10 },
    ],
    { inputShape: [1, 8, 8], dtype: 'bfloat16', seed: 1 },
  );
  const optimizer = new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 0.5 });
  const trainer = new Trainer({ model, optimizer, train: digits, epochs: 3, batchSize: 64, seed: 1 });
  await trainer.fit();
  const { accuracy } = await model.evaluate(digits);
  expect(accuracy).toBeGreaterThan(0.8);
});
