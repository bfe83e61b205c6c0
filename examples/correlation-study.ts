// Does flatness predict generalization? Nets trained to one training loss, ranked by their sharpness and by their gap.
// Expected: Kendall's tau of adaptive sharpness with the generalization gap is above that of plain sharpness (Kwon 2021, section 3).
// A dozen nets decide nothing: `flatmin study` trains a whole grid, with intervals and baselines (docs/study.md).
// Run: node --loader ts-node/esm examples/correlation-study.ts [seeds] [target loss]

import { analysis, type Callback, datasets, models, SGD, Trainer } from 'flatmin';

const [seeds, target] = [Number(process.argv[2] ?? 3), Number(process.argv[3] ?? 0.01)];
const [train, test] = datasets.digits().split([400, 1397], { seed: 1 });
const stopAtTarget: Callback = {
  onEpochEnd: ({ train: { loss } }, control) => {
    if (loss <= target) control.stop();
  },
};

const nets: { gap: number; sharpness: number; adaptive: number }[] = [];
for (const batchSize of [16, 64]) {
  for (const lr of [0.005, 0.02]) {
    for (let seed = 1; seed <= seeds; seed += 1) {
      using model = models.demo({ seed });
      const optimizer = new SGD(model, { lr, momentum: 0.9 });
      const options = { batchSize, epochs: 200, schedule: 'constant', seed, callbacks: [stopAtTarget] } as const;
      await new Trainer({ model, optimizer, train, ...options }).fit();
      const [seen, unseen] = [await model.evaluate(train), await model.evaluate(test)];
      const net = {
        gap: unseen.loss - seen.loss,
        sharpness: (await analysis.sharpness(model, train, { rho: 0.05 })).points[0]?.sharpness ?? Number.NaN,
        adaptive:
          (await analysis.sharpness(model, train, { rho: 0.5, scale: 'element' })).points[0]?.sharpness ?? Number.NaN,
      };
      nets.push(net);
      console.log(
        `batch ${batchSize}, lr ${lr}, seed ${seed}: gap ${net.gap.toFixed(4)}, sharpness ${net.sharpness.toFixed(4)}, adaptive ${net.adaptive.toFixed(4)}`,
      );
    }
  }
}
for (const measure of ['sharpness', 'adaptive'] as const)
  console.log(
    `tau of ${measure} with the gap: ${kendall(nets.map((net) => [net[measure], net.gap])).toFixed(3)} (n = ${nets.length})`,
  );

/** Kendall's tau-a: the share of pairs that both rank alike, minus the share that they rank differently. */
function kendall(points: [number, number][]): number {
  const pairs = points.flatMap((a, index) =>
    points.slice(index + 1).map((b) => Math.sign((a[0] - b[0]) * (a[1] - b[1]))),
  );
  return pairs.reduce((sum, sign) => sum + sign, 0) / pairs.length;
}
