// Models that compute in float16, as users see them: the loss is scaled, overflows are skipped, a resumed run keeps the scale.

import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ASAM, datasets, models, SGD, Trainer } from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { convBatch, convNet } from './support.js';

const folder = temporaryFolder('float16');

it('a step is near that of float32, and tells its scale', async () => {
  const [wide, half] = await Promise.all(
    (['float32', 'float16'] as const).map(async (dtype) => {
      const optimizer = new ASAM(new SGD(convNet({ dtype }), { lr: 0.05 }), { rho: 0.5 });
      return { scale: optimizer.lossScale, info: await optimizer.step(convBatch(0, { count: 16 })) };
    }),
  );
  expect([wide?.scale, half?.scale]).toEqual([null, 65536]);
  expect([wide?.info.lossScale, half?.info.lossScale]).toEqual([null, 65536]);
  expect(half?.info.finite).toBe(true);
  for (const key of ['loss', 'perturbedLoss', 'gradientNorm'] as const) {
    expect((half?.info[key] ?? 0) / (wide?.info[key] ?? 1), key).toBeCloseTo(1, 1);
  }
});

it('a step that overflows is skipped and halves the scale', async () => {
  const sgd = new SGD(convNet({ dtype: 'float16' }), { lr: 0.05, lossScale: { initial: 2 ** 40 } });
  expect(sgd.lossScale).toBe(2 ** 40);
  const { finite } = await sgd.step(convBatch(0));
  expect(finite).toBe(false);
  expect([sgd.lossScale, sgd.skippedSteps, sgd.steps]).toEqual([2 ** 39, 1, 0]);
});

// libtorch's float16 is slow on some processors.
it('a run keeps its scale from checkpoint to checkpoint', { timeout: 300_000 }, async () => {
  const pair = (runDir: string, epochs: number) => {
    const model = models.demo({ dtype: 'float16', seed: 3 });
    const lossScale = { initial: 2 ** 30, growthInterval: 5 };
    const optimizer = new ASAM(new SGD(model, { lr: 0.05, momentum: 0.9, lossScale }), { rho: 0.5 });
    const train = datasets.digits().take(256);
    const trainer = new Trainer({
      model,
      optimizer,
      train,
      epochs,
      batchSize: 32,
      schedule: 'constant',
      seed: 1,
      nonFinite: 'error',
      runDir: join(folder, runDir),
    });
    return { model, optimizer, trainer };
  };
  const whole = pair('whole', 4);
  const scales: number[] = [];
  for await (const event of whole.trainer.fit()) {
    if (event.type === 'step') scales.push(event.lossScale ?? 0);
  }
  expect(scales.length).toBeGreaterThan(0);
  expect(Math.min(...scales)).toBeLessThan(2 ** 30);
  expect(whole.optimizer.skippedSteps).toBeGreaterThan(0);

  await pair('part', 2).trainer.fit();
  const rest = pair('part', 4);
  await rest.trainer.resume(join(folder, 'part'));
  expect(rest.optimizer.lossScale).toBe(whole.optimizer.lossScale);
  expect(rest.optimizer.skippedSteps).toBe(whole.optimizer.skippedSteps);
  const [expected, found] = await Promise.all([whole.model.stateDict(), rest.model.stateDict()]);
  for (const [name, tensor] of Object.entries(expected)) {
    expect(await found[name]?.data(), name).toEqual(await tensor.data());
  }
});

it('bad options are refused by name', () => {
  const model = convNet({ dtype: 'float16' });
  const sgd = (lossScale: object) => () => new SGD(model, { lossScale });
  expect(sgd({ initial: 0 })).toThrow(/lossScale.initial/);
  expect(sgd({ growthFactor: 0.5 })).toThrow(/lossScale.growthFactor/);
  expect(sgd({ backoffFactor: 2 })).toThrow(/lossScale.backoffFactor/);
  expect(sgd({ growthInterval: 0 })).toThrow(/lossScale.growthInterval/);
  expect(sgd({ interval: 3 })).toThrow(/interval/);
});
