// ResNet-20 on CIFAR-10 with ASAM, followed while it trains; Ctrl-C ends it after the step it is in.
// Run: node --loader ts-node/esm examples/cifar10.ts [folder] [epochs]; the data set is downloaded when the folder lacks it.

import { ASAM, callbacks, datasets, models, SGD, Trainer } from 'flatmin';

const folder = await datasets.download('cifar10', process.argv[2] ?? 'data');
const epochs = Number(process.argv[3] ?? 200);

const model = models.resnet20({ numClasses: 10, seed: 1 });
const optimizer = new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 }), { rho: 0.5, eta: 0.01 });
const trainer = new Trainer({
  model,
  optimizer,
  train: datasets.cifar10(folder),
  validation: 0.1,
  test: datasets.cifar10(folder, { split: 'test' }),
  epochs,
  batchSize: 128,
  schedule: 'cosine',
  augment: 'standard',
  runDir: 'runs/cifar10-asam',
  callbacks: [new callbacks.CSVLogger({ path: 'runs/cifar10-asam/epochs.csv' })],
});

const run = trainer.fit();
process.once('SIGINT', () => run.stop());
for await (const event of run) {
  if (event.type === 'step')
    process.stderr.write(
      `\repoch ${event.epoch}, step ${event.step} of ${event.totalSteps}, ${Math.round(event.imagesPerSecond)} images/s `,
    );
  if (event.type === 'epoch')
    console.log(
      `\nepoch ${event.epoch}: loss ${event.train.loss.toFixed(3)}, validation accuracy ${event.validation?.accuracy.toFixed(4)}`,
    );
}
const { result } = await run;
if (result.test)
  console.log(`test accuracy ${result.test.accuracy.toFixed(4)}, best validation epoch ${result.best?.epoch}`);
else console.log(`stopped before the end of an epoch; go on later with trainer.resume('${result.checkpoint}')`);
