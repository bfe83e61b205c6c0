// Our side of the benches: loops that the addon runs by itself, with the settings of the published examples.
import { call } from '../call.js';
import { loadNative } from '../native/index.js';
import { asamRules, asamSchema, samRules, samSchema, sgdSchema } from '../options/index.js';
import type { Contender } from './alternate.js';

/** SGD as in the published examples, and SAM or ASAM around it with the preset `paper`. */
export function optimizerConfig(optimizer: 'sgd' | 'sam' | 'asam'): object {
  const base = { type: 'sgd', ...sgdSchema.parse({ lr: 0.1, momentum: 0.9, weightDecay: 5e-4 }) };
  const rules = {
    sgd: () => null,
    sam: () => samRules(samSchema.parse({})),
    asam: () => asamRules(asamSchema.parse({})),
  };
  return { base, sharpness: rules[optimizer]() };
}

/** Opens the addon's own loop of that kind; `threads` is how many it computes with. */
export function openBench(kind: 'step' | 'train' | 'loop', options: object, threads: number): Contender {
  const native = loadNative();
  return call(() => {
    native.load({ threads });
    const bench = native.BindingBench.create(kind, options);
    return {
      name: 'flatmin',
      // The peak is the whole process's, Node and the facade included.
      run: async (steps: number) => ({
        ...(await call(() => bench.run(steps))),
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      }),
    };
  });
}
