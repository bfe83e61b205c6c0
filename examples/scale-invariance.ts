// One function, many weights: filters times a and the batch norm behind them set to take it back give the same network.
// Expected: adaptive sharpness (Kwon 2021) tells the same of all of them; plain sharpness does not, though nothing has changed.
// Run: node --loader ts-node/esm examples/scale-invariance.ts [epochs]

import { analysis, datasets, type Model, models, SGD, type StateDict, Tensor, Trainer } from 'flatmin';

const BATCH_NORM_EPS = 1e-5;
const epochs = Number(process.argv[2] ?? 10);
const [train, test] = datasets.digits().split([1297, 500], { seed: 1 });
const model = models.demo({ seed: 1, dtype: 'float64' });
await new Trainer({ model, optimizer: new SGD(model, { lr: 0.1, momentum: 0.9 }), train, test, epochs, seed: 1 }).fit();

const trained = await model.stateDict();
for (const a of [1, 2, 8]) {
  await model.loadStateDict(await rescaled(trained, a));
  const { loss } = await model.evaluate(test);
  const [plain, adaptive] = [await worst(model, 'none', 0.05), await worst(model, 'element', 0.5)];
  console.log(
    `filters x ${a}: test loss ${loss.toFixed(8)}, sharpness ${plain.toFixed(6)}, adaptive sharpness ${adaptive.toFixed(6)}`,
  );
}

/** The same function: the second convolution's filters times a, its batch norm's statistics of outputs times a. */
async function rescaled(state: StateDict, a: number): Promise<StateDict> {
  const map = async (name: string, change: (value: number) => number) => {
    const tensor = state[name] as Tensor;
    const values = (await tensor.data()) as Float64Array;
    return { [name]: Tensor.from(values.map(change), tensor.shape) };
  };
  return {
    ...state,
    ...(await map('conv2.weight', (w) => a * w)),
    ...(await map('bn2.running_mean', (mean) => a * mean)),
    // Batch norm divides by sqrt(variance + eps), and eps stays what it is.
    ...(await map('bn2.running_var', (variance) => a * a * (variance + BATCH_NORM_EPS) - BATCH_NORM_EPS)),
  };
}

/** How far the loss on 200 training images rises within the ball of that radius. */
async function worst(of: Model, scale: 'none' | 'element', rho: number): Promise<number> {
  const { points } = await analysis.sharpness(of, train, { rho, scale, seed: 1, limit: 200 });
  return points[0]?.sharpness ?? Number.NaN;
}
