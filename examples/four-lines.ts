// A training loop of one's own: the four lines that make SGD seek flat minima with ASAM.
// Run: node --loader ts-node/esm examples/four-lines.ts [epochs]

import { ASAM, datasets, models, SGD } from 'flatmin';

const epochs = Number(process.argv[2] ?? 10);
const [train, test] = datasets.digits().split([0.8, 0.2], { seed: 1 });
const model = models.demo({ seed: 1 });
const optimizer = new ASAM(new SGD(model, { lr: 0.05, momentum: 0.9, weightDecay: 5e-4 }), { rho: 0.5 });

for (let epoch = 1; epoch <= epochs; epoch += 1) {
  let total = 0;
  for await (const batch of train.batches({ batchSize: 128, epoch, dropLast: true })) {
    const loss = await model.backward(batch); // at the weights w
    await optimizer.ascentStep(); // to w + eps, where the loss is highest nearby
    await model.backward(batch); // at w + eps
    await optimizer.descentStep(); // back to w, and a step of SGD with that gradient
    total += loss;
  }
  const { accuracy } = await model.evaluate(test);
  console.log(
    `epoch ${epoch}: loss ${(total / Math.floor(train.length / 128)).toFixed(3)}, test accuracy ${(100 * accuracy).toFixed(1)} %`,
  );
}
