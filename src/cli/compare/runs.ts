// Trains the runs of a comparison in this process, several at once if asked: each has its own thread, they share the images,
// and Ctrl-C stops all of them after a step. What a folder holds from before is taken over or gone on with, not run again.
import type { EpochEvent, Run } from '../../index.js';
import type { ReportRun } from '../../report/index.js';
import { describeFailure, EXIT, exitCodeOf } from '../failure.js';
import { onInterrupt } from '../interrupt.js';
import type { Output } from '../output.js';
import { type Images, planTraining, readRun } from '../training.js';
import { Board } from './board.js';
import { inOrder, type Job, jobsOf, prepareFolder, shareDone } from './jobs.js';
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

/** How the runs are trained. */
export interface Manner {
  /** Runs trained at once. */
  readonly jobs: number;
  /** Whether each writes TensorBoard files into its folder. */
  readonly tensorboard: boolean;
}

/** Trains what is not finished yet. */
export async function trainRuns(
  plans: readonly PlannedRun[],
  openImages: () => Promise<Images>,
  manner: Manner,
  output: Output,
): Promise<Outcome> {
  const jobs = jobsOf(plans);
  const todo = jobs.filter(({ kept }) => kept?.finished !== true);
  tellPlan(jobs, todo, output);
  const start = performance.now();
  const crew = new Crew(todo, manner, output);
  using interrupt = onInterrupt(() => crew.stop());
  if (todo.length > 0) await crew.train(await openImages());
  const runs = jobs.flatMap((job) => {
    const epochs = job.kept?.finished === true ? job.kept.epochs : crew.finished.get(job);
    return epochs === undefined ? [] : [finishedRun(job.plan, epochs)];
  });
  const { failures } = crew;
  const stopped = interrupt.requested && runs.length + failures.length < plans.length;
  return { runs, failures, seconds: (performance.now() - start) / 1000, stopped };
}

const finishedRun = (plan: PlannedRun, epochs: readonly EpochEvent[]): FinishedRun => ({
  ...{ plan, epochs, group: plan.setting.name, seed: plan.options.seed },
});

function tellPlan(all: readonly Job[], todo: readonly Job[], output: Output): void {
  const [finished, resumed] = [all.length - todo.length, todo.filter((job) => shareDone(job) > 0).length];
  const before = [
    ...(finished > 0 ? [`${finished} finished before`] : []),
    ...(resumed > 0 ? [`${resumed} to go on with`] : []),
  ];
  output.text(`${all.length} runs${before.length > 0 ? `, ${before.join(', ')}` : ''}`);
}

/** Works through a queue of jobs. */
class Crew {
  /** The epochs of each finished job. */
  readonly finished = new Map<Job, readonly EpochEvent[]>();
  readonly failures: FailedRun[] = [];
  readonly #queue: Job[];
  readonly #active = new Set<Run>();
  readonly #board: Board;
  readonly #live: boolean;
  readonly #manner: Manner;
  #stopped = false;

  constructor(todo: readonly Job[], manner: Manner, output: Output) {
    this.#manner = manner;
    this.#queue = inOrder(todo);
    this.#board = new Board(
      todo.map((run) => ({ run, share: shareDone(run) })),
      output,
    );
    this.#live = output.live;
  }

  /** Stops the runs after their step and begins no other. */
  stop(): void {
    this.#stopped = true;
    for (const run of this.#active) run.stop();
  }

  /** @throws what is wrong with the options of a run, since it is wrong with all of the comparison. */
  async train(images: Images): Promise<void> {
    const workers = Array.from({ length: this.#manner.jobs }, () => this.#work(images));
    for (const outcome of await Promise.allSettled(workers)) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async #work(images: Images): Promise<void> {
    for (let job = this.#queue.shift(); job !== undefined && !this.#stopped; job = this.#queue.shift()) {
      try {
        const epochs = await this.#trainOne(job, images);
        if (epochs !== undefined) this.finished.set(job, epochs);
      } catch (error) {
        this.#failed(job, error);
      }
    }
  }

  #failed(job: Job, error: unknown): void {
    if (exitCodeOf(error) === EXIT.usage) {
      this.stop();
      throw error;
    }
    const message = describeFailure(error, false);
    this.#board.failed(job, message);
    this.failures.push({ group: job.plan.setting.name, seed: job.plan.options.seed, message });
  }

  /** Trains one run to its end and gives all its epochs; nothing when it was stopped. */
  async #trainOne(job: Job, images: Images): Promise<readonly EpochEvent[] | undefined> {
    const { options, runDir } = job.plan;
    const goesOn = runDir !== undefined && job.kept?.resumable === true;
    const start = goesOn ? { ...options, weights: undefined } : options;
    const { tensorboard } = this.#manner;
    using training = await planTraining(start)(images, { runDir, tensorboard, stepEventMs: this.#live ? 100 : 1000 });
    await prepareFolder(job);
    const run = goesOn ? training.trainer.resume(runDir) : training.trainer.fit();
    this.#active.add(run);
    // The signal may have come while the run was being made.
    if (this.#stopped) run.stop();
    try {
      for await (const event of run) {
        if (event.type === 'step') this.#board.step(job, event);
        else if (event.type === 'epoch') this.#board.epoch(job, event);
      }
      const { epochs, reason } = await run;
      if (reason !== 'finished') return undefined;
      // The folder also knows the epochs of before.
      const all = (runDir === undefined ? undefined : readRun(runDir)?.epochs) ?? epochs;
      this.#board.finished(job, all.at(-1));
      return all;
    } finally {
      this.#active.delete(run);
    }
  }
}
