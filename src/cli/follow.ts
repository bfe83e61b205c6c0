// Follows one training run to its end: shows progress, writes event lines, and stops it cleanly at Ctrl-C.
import type { FinishedHistory, Run } from '../index.js';
import { onInterrupt } from './interrupt.js';
import type { Output } from './output.js';
import { TrainProgress } from './progress.js';

interface FollowOptions {
  readonly epochs: number;
  /** Event lines under --json; off where the caller prints its own document. */
  readonly events?: boolean;
}

/** Waits for the end of `run`. */
export async function follow(run: Run, output: Output, options: FollowOptions): Promise<FinishedHistory> {
  using _interrupt = onInterrupt(() => run.stop());
  const progress = new TrainProgress(output, options.epochs);
  for await (const event of run) {
    if (options.events === true) output.event(event);
    if (event.type === 'step') progress.step(event);
    else if (event.type === 'epoch') progress.epoch(event);
  }
  return run;
}
