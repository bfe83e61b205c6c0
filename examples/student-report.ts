// An experiment for a report: does SAM around Adam beat Adam that trains twice as long, on a net of 571,114 parameters?
// Both halve the learning rate on a plateau and stop early; each has the same number of forward and backward passes.
// Expected: SAM ends with the higher test accuracy and the smaller gap. With few epochs Adam is ahead: SAM makes half the steps.
// Run: node --loader ts-node/esm examples/student-report.ts [CIFAR-10 folder] [epochs of SAM] [seeds] [training images] [dtype]

import { Adam, callbacks, datasets, models, SAM, Trainer } from 'flatmin';

const folder = await datasets.download('cifar10', process.argv[2] ?? 'data');
const [epochs, seeds] = [Number(process.argv[3] ?? 50), Number(process.argv[4] ?? 3)];
const all = await datasets.cifar10(folder);
const train = all.take(Number(process.argv[5] ?? all.length));
const dtype = process.argv[6] === 'bfloat16' ? 'bfloat16' : 'float32';
const test = datasets.cifar10(folder, { split: 'test' });

for (let seed = 1; seed <= seeds; seed += 1) {
  for (const name of ['Adam', 'SAM'] as const) {
    using model = models.resnet20_bottleneck({ seed, dtype });
    const adam = new Adam(model, { lr: 1e-3 });
    const trainer = new Trainer({
      ...{ model, optimizer: name === 'SAM' ? new SAM(adam, { rho: 0.05 }) : adam },
      ...{ train, validation: 0.1, seed, augment: 'standard' },
      epochs: name === 'SAM' ? epochs : 2 * epochs,
      schedule: { type: 'plateau', factor: 0.5, patience: 5 },
      callbacks: [new callbacks.EarlyStopping({ patience: 15, restoreBestWeights: true })],
    });
    const { result, epochs: history } = await trainer.fit();
    const { accuracy } = await model.evaluate(test);
    const last = history.at(-1);
    console.log(
      `${name}, seed ${seed}: ${history.length} epochs in ${Math.round(result.seconds)} s; test accuracy ${(100 * accuracy).toFixed(2)} %, ` +
        `validation loss ${last?.validation?.loss.toFixed(3)}, gap ${last?.generalizationGap?.toFixed(3)}`,
    );
  }
}
