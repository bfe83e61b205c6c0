// Presets that follow another published implementation must end where that implementation ends: goldens/README.md says how it was run.

import { describe, expect, test } from 'vitest';
import { expectEnd, expectLosses } from './goldens/expect.js';
import { type GoldenNet, type OptimizerCase, optimizerOf, presetNets } from './goldens/golden.js';

const timeout = 120_000;

/** The loss that a preset reports: google's is the second pass's. */
function reported({ options }: OptimizerCase, step: OptimizerCase['steps'][number]) {
  const { loss, perturbedLoss } = step as { loss: number; perturbedLoss?: number };
  return options.preset === 'google' ? { loss: perturbedLoss as number, perturbedLoss } : { loss, perturbedLoss };
}

async function run(net: GoldenNet, golden: OptimizerCase): Promise<void> {
  const model = await net.model('float64');
  const optimizer = optimizerOf(model, golden);
  for (const [index, step] of golden.steps.entries())
    expectLosses(index, await optimizer.step(net.batch(index, 'float64')), reported(golden, step));
  await expectEnd(net, model, golden);
}

describe.each(Object.entries(presetNets))('%s', (_, net) => {
  test('starts from the numbers that the published implementations started from', async () => {
    const ends = (all: Float64Array): number[] => [all[0] as number, all.at(-1) as number];
    for (const [name, tensor] of Object.entries(await (await net.model('float64')).stateDict())) {
      if (!name.endsWith('num_batches_tracked'))
        expect(ends((await tensor.data()) as Float64Array), name).toEqual(net.golden.formula[name]);
    }
  });

  test.each(Object.entries(net.golden.cases))('%s', { timeout }, async (__, golden) => {
    await run(net, golden);
  });
});
