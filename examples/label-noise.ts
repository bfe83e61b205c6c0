// Flat minima and wrong labels: SGD, SAM and ASAM on digits of which 40 % of the training labels are wrong.
// Expected: SGD learns the wrong labels by heart and loses 20 and more points of test accuracy to it; SAM and ASAM do not.
// Run: node --loader ts-node/esm examples/label-noise.ts [epochs] [seeds]

import { ASAM, datasets, models, type Optimizer, SAM, SGD, type SharpnessAware, Trainer } from 'flatmin';

const [epochs, seeds] = [Number(process.argv[2] ?? 30), Number(process.argv[3] ?? 3)];
const [clean, test] = datasets.digits().split([1297, 500], { seed: 1 });
const train = clean.withLabelNoise(0.4, { seed: 1 });

type Create = (base: SGD) => Optimizer | SharpnessAware;
const methods: Record<string, Create> = {
  SGD: (base) => base,
  'SAM, rho 0.5': (base) => new SAM(base, { rho: 0.5 }),
  'ASAM, rho 4': (base) => new ASAM(base, { rho: 4 }),
};

console.log(`${seeds} runs of ${epochs} epochs each, seeds 1 to ${seeds}`);
for (const [name, create] of Object.entries(methods)) {
  const scores = { train: [] as number[], test: [] as number[] };
  for (let seed = 1; seed <= seeds; seed += 1) {
    using model = models.demo({ seed });
    const optimizer = create(new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 }));
    const { result } = await new Trainer({ model, optimizer, train, test, epochs, seed, schedule: 'cosine' }).fit();
    scores.train.push(result.train?.accuracy ?? Number.NaN);
    scores.test.push(result.test?.accuracy ?? Number.NaN);
  }
  console.log(
    `${name}: accuracy on the noisy training labels ${range(scores.train)}, on clean test labels ${range(scores.test)}`,
  );
}

function range(accuracies: number[]): string {
  const mean = accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length;
  const [low, high] = [Math.min(...accuracies), Math.max(...accuracies)].map((value) => (100 * value).toFixed(1));
  return `${(100 * mean).toFixed(1)} % (${low} to ${high})`;
}
