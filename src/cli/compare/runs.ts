// Trains the runs of a comparison in this process, several at once if asked: each has its own thread, they share the images,
// and Ctrl-C stops all of them after a step. What a folder holds from before is taken over or gone on with, not run again.
import { rm } from 'node:fs/promises';
import type { EpochEvent, Run } from '../../index.js';
import type { ReportRun } from '../../report/index.js';
import { describeFailure, UsageError } from '../failure.js';
import { onInterrupt } from '../interrupt.js';
import { optimizerEntry, type Values } from '../optimizers.js';
import type { Output } from '../output.js';
import { type Images, type KeptRun, planTraining, readRun, saveOptions } from '../training.js';
import { Board, type BoardRun } from './board.js';
import type { PlannedRun } from './plan.js';

/** A run that is over; its group is the name of its setting. */
export interface FinishedRun extends ReportRun {
  readonly plan: PlannedRun;
  readonly epochs: readonly EpochEvent[];
}

/** A run that ended with an error; the others went on. */
export interface FailedRun {
  readonly group: string;
  readonly seed: number;
  readonly message: string;
}

/** What came of the runs. */
export interface Outcome {
  /** In the order of the plan. */
  readonly runs: readonly FinishedRun[];
  readonly failures: readonly FailedRun[];
  /** Wall time of what was trained now. */
  readonly seconds: number;
  /** True when the user stopped it before all runs were over. */
  readonly stopped: boolean;
}

/** A planned run and what its folder holds of it. */
interface Job extends BoardRun {
  readonly plan: PlannedRun;
  readonly kept: KeptRun | undefined;
}

/** Settings of where and how fast, which do not change what a run computes. */
const CHANGEABLE = new Set(['dataDir', 'threads', 'loaderThreads']);

/** Looks at the folders of the runs. @throws {@link UsageError} when one holds a run with other options. */
function jobsOf(plans: readonly PlannedRun[]): Job[] {
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

/** Trains what is not finished yet, `jobs` runs at once. */
export async function trainRuns(
  plans: readonly PlannedRun[],
  openImages: () => Promise<Images>,
  jobs: number,
  output: Output,
): Promise<Outcome> {
  const all = jobsOf(plans);
  const todo = all.filter(({ kept }) => kept?.finished !== true);
  tellPlan(all, todo, output);
  const results = new Map<PlannedRun, FinishedRun>();
  for (const { plan, kept } of all) if (kept?.finished === true) results.set(plan, finishedRun(plan, kept.epochs));
  const failures: FailedRun[] = [];
  const start = performance.now();
  const active = new Set<Run>();
  using interrupt = onInterrupt(() => {
    for (const run of active) run.stop();
  });
  if (todo.length > 0) {
    const images = await openImages();
    const board = new Board(
      todo.map((run) => ({ run, share: shareDone(run) })),
      output,
    );
    const queue = inOrder(todo);
    const work = async () => {
      for (let job = queue.shift(); job !== undefined && !interrupt.requested; job = queue.shift()) {
        try {
          const epochs = await trainOne(job, images, { active, board, output });
          if (epochs !== undefined) results.set(job.plan, finishedRun(job.plan, epochs));
        } catch (error) {
          const message = describeFailure(error, false);
          board.failed(job, message);
          failures.push({ group: job.plan.setting.name, seed: job.plan.options.seed, message });
        }
      }
    };
    await Promise.all(Array.from({ length: jobs }, work));
  }
  const runs = plans.flatMap((plan) => results.get(plan) ?? []);
  const stopped = interrupt.requested && runs.length + failures.length < plans.length;
  return { runs, failures, seconds: (performance.now() - start) / 1000, stopped };
}

const finishedRun = (plan: PlannedRun, epochs: readonly EpochEvent[]): FinishedRun => ({
  ...{ plan, epochs, group: plan.setting.name, seed: plan.options.seed },
});

const shareDone = ({ kept, epochs }: Job) => (kept?.resumable === true ? kept.epochs.length / epochs : 0);

/** Seed by seed, so that a comparison that is cut short compares something; in a seed, the slow runs first. */
const inOrder = (todo: readonly Job[]) =>
  todo.toSorted((a, b) => a.plan.options.seed - b.plan.options.seed || b.cost - a.cost);

function tellPlan(all: readonly Job[], todo: readonly Job[], output: Output): void {
  const [finished, resumed] = [all.length - todo.length, todo.filter((job) => shareDone(job) > 0).length];
  const before = [
    ...(finished > 0 ? [`${finished} finished before`] : []),
    ...(resumed > 0 ? [`${resumed} to go on with`] : []),
  ];
  output.text(`${all.length} runs${before.length > 0 ? `, ${before.join(', ')}` : ''}`);
}

interface Surroundings {
  readonly active: Set<Run>;
  readonly board: Board;
  readonly output: Output;
}

/** Trains one run to its end and gives all its epochs; nothing when it was stopped. */
async function trainOne(
  job: Job,
  images: Images,
  { active, board, output }: Surroundings,
): Promise<readonly EpochEvent[] | undefined> {
  const { options, runDir } = job.plan;
  using training = planTraining(options)(images, { runDir, stepEventMs: output.live ? 100 : 1000 });
  await prepareFolder(job);
  const goesOn = runDir !== undefined && job.kept?.resumable === true;
  const run = goesOn ? training.trainer.resume(runDir) : training.trainer.fit();
  active.add(run);
  try {
    for await (const event of run) {
      if (event.type === 'step') board.step(job, event);
      else if (event.type === 'epoch') board.epoch(job, event);
    }
    const { epochs, reason } = await run;
    if (reason !== 'finished') return undefined;
    board.finished(job, epochs.at(-1));
    // The folder also knows the epochs of before.
    return runDir === undefined ? epochs : readRun(runDir)?.epochs;
  } finally {
    active.delete(run);
  }
}

/** Leaves the folder of a run that goes on; one that was killed before its first checkpoint is begun anew. */
async function prepareFolder({ plan: { options, runDir }, kept }: Job): Promise<void> {
  if (runDir === undefined || kept?.resumable === true) return;
  if (kept !== undefined) await rm(runDir, { recursive: true });
  await saveOptions(runDir, options);
}
