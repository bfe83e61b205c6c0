// What is left to do of a comparison: each planned run beside what its folder holds of it.
import { rm } from 'node:fs/promises';
import { UsageError } from '../failure.js';
import { optimizerEntry, type Values } from '../optimizers.js';
import { type KeptRun, readRun, saveOptions } from '../training.js';
import type { BoardRun } from './board.js';
import type { PlannedRun } from './plan.js';

/** A planned run and what its folder holds of it. */
export interface Job extends BoardRun {
  readonly plan: PlannedRun;
  readonly kept: KeptRun | undefined;
}

/** Settings of where and how fast, which do not change what a run computes. */
const CHANGEABLE = new Set(['dataDir', 'threads', 'loaderThreads']);

/** Looks at the folders of the runs. @throws {@link UsageError} when one holds a run with other options. */
export function jobsOf(plans: readonly PlannedRun[]): Job[] {
  return plans.map((plan) => {
    const { setting, options, runDir } = plan;
    const kept = runDir === undefined ? undefined : readRun(runDir);
    if (runDir !== undefined && kept !== undefined) requireSame(kept.options, options, runDir);
    const passes = optimizerEntry(setting.optimizer).wraps ? 2 : 1;
    return {
      ...{ plan, kept, name: `${setting.name}, seed ${options.seed}` },
      ...{ epochs: options.epochs, cost: options.epochs * passes },
    };
  });
}

function requireSame(before: Values, now: Values, runDir: string): void {
  const show = (value: unknown) => JSON.stringify(value) ?? 'not given';
  const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  const key = keys.find((name) => !CHANGEABLE.has(name) && show(before[name]) !== show(now[name]));
  if (key === undefined) return;
  throw new UsageError(
    `${runDir} holds a run with another '${key}': it was ${show(before[key])} and is ${show(now[key])}; choose another --out, or the same options to go on`,
  );
}

/** Share of a run that was done before. */
export const shareDone = ({ kept, epochs }: Job) => (kept?.resumable === true ? kept.epochs.length / epochs : 0);

/** Seed by seed, so that a comparison that is cut short compares something; in a seed, the slow runs first. */
export const inOrder = (jobs: readonly Job[]) =>
  jobs.toSorted((a, b) => a.plan.options.seed - b.plan.options.seed || b.cost - a.cost);

/** Leaves the folder of a run that goes on; one that was killed before its first checkpoint is begun anew. */
export async function prepareFolder({ plan: { options, runDir }, kept }: Job): Promise<void> {
  if (runDir === undefined || kept?.resumable === true) return;
  if (kept !== undefined) await rm(runDir, { recursive: true });
  await saveOptions(runDir, options);
}
