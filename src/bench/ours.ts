// Our side of the benches: loops that the addon runs by itself.
import { call } from '../call.js';
import { loadNative } from '../native/index.js';
import type { Contender } from './alternate.js';

/** Opens the addon's own loop of that kind; `threads` is how many it computes with. */
export function openBench(
  kind: 'step' | 'train' | 'loop' | 'data',
  options: object,
  threads: number,
  name = 'flatmin',
): Contender {
  const native = loadNative();
  return call(() => {
    native.load({ threads });
    const bench = native.BindingBench.create(kind, options);
    return {
      name,
      // The peak is the whole process's, Node and the facade included.
      run: async (steps: number) => ({
        ...(await call(() => bench.run(steps))),
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      }),
    };
  });
}
