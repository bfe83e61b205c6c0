// Trains the nine runs of the demo, several at once with one thread each: small nets leave a second core idle.
import { ASAM, type Dataset, models, type Run, SAM, SGD, Trainer } from '../index.js';
import type { ReportRun } from '../report/index.js';
import { zooOptionsFor } from './data.js';
import { onInterrupt } from './interrupt.js';
import type { Output } from './output.js';

/** A finished run; its group is the optimizer. */
export type DemoRun = ReportRun;

interface DemoPlan {
  readonly train: Dataset;
  readonly test: Dataset;
  readonly epochs: number;
  readonly seeds: readonly number[];
  readonly noise: number;
  readonly rhoSam: number;
  readonly rhoAsam: number;
  readonly jobs: number;
}

interface Task {
  readonly group: 'SGD' | 'SAM' | 'ASAM';
  readonly seed: number;
}

const nameOf = ({ group, seed }: Task) => `${group} seed ${seed}`;

/** Trains every optimizer with every seed; `seconds` is the wall time of all of it. */
export async function trainAll(
  plan: DemoPlan,
  output: Output,
): Promise<{ runs: DemoRun[]; seconds: number; stopped: boolean }> {
  const tasks = plan.seeds.flatMap((seed): Task[] => [
    { group: 'SGD', seed },
    { group: 'SAM', seed },
    { group: 'ASAM', seed },
  ]);
  const board = new Board(tasks.length, plan.epochs, output);
  const active = new Set<Run>();
  using interrupt = onInterrupt(() => {
    for (const run of active) run.stop();
  });
  const results = new Map<Task, DemoRun>();
  // The slow runs first, so that the last core is not left with one of them.
  const queue = tasks.toSorted((a, b) => Number(a.group === 'SGD') - Number(b.group === 'SGD'));
  const start = performance.now();
  const work = async () => {
    for (let task = queue.shift(); task !== undefined && !interrupt.requested; task = queue.shift()) {
      results.set(task, await trainOne(task, plan, active, board));
    }
  };
  await Promise.all(Array.from({ length: plan.jobs }, work));
  const groups = ['SGD', 'SAM', 'ASAM'];
  const runs = [...results.values()].sort(
    (a, b) => groups.indexOf(a.group) - groups.indexOf(b.group) || a.seed - b.seed,
  );
  return { runs, seconds: (performance.now() - start) / 1000, stopped: interrupt.requested };
}

async function trainOne(task: Task, plan: DemoPlan, active: Set<Run>, board: Board): Promise<DemoRun> {
  const { seed, group } = task;
  using model = models.demo({ ...zooOptionsFor(plan.train), seed });
  const base = new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 });
  const optimizer =
    group === 'SGD'
      ? base
      : group === 'SAM'
        ? new SAM(base, { rho: plan.rhoSam })
        : new ASAM(base, { rho: plan.rhoAsam });
  const trainer = new Trainer({
    model,
    optimizer,
    train: plan.train.withLabelNoise(plan.noise, { seed }),
    test: plan.test,
    epochs: plan.epochs,
    batchSize: 128,
    schedule: 'cosine',
    seed,
    threads: 1,
  });
  const run = trainer.fit();
  active.add(run);
  try {
    for await (const event of run) {
      if (event.type === 'epoch') board.epoch(nameOf(task), event.epoch, event.test?.accuracy);
    }
    const { epochs, result } = await run;
    board.finished(nameOf(task), result.test?.accuracy, result.seconds);
    return { group, seed, epochs, seconds: result.seconds };
  } finally {
    active.delete(run);
  }
}

/** Progress of all runs on one line, and a line that stays for each finished run. */
class Board {
  readonly #running = new Map<string, string>();
  readonly #total: number;
  readonly #epochs: number;
  readonly #output: Output;
  #done = 0;
  #epochsDone = 0;
  readonly #start = performance.now();

  constructor(total: number, epochs: number, output: Output) {
    this.#total = total;
    this.#epochs = epochs;
    this.#output = output;
  }

  epoch(name: string, epoch: number, accuracy: number | undefined): void {
    this.#epochsDone += 1;
    this.#running.set(name, `${name} ${epoch}/${this.#epochs} ${percent(accuracy)}`);
    const share = this.#epochsDone / (this.#total * this.#epochs);
    const left = ((performance.now() - this.#start) / 1000) * (1 / share - 1);
    this.#output.progress(
      `${this.#done}/${this.#total} done, ${Math.ceil(left)} s left  |  ${[...this.#running.values()].join('  |  ')}`,
    );
  }

  finished(name: string, accuracy: number | undefined, seconds: number): void {
    this.#running.delete(name);
    this.#done += 1;
    this.#output.text(`${name.padEnd(12)}  test accuracy ${percent(accuracy)}  ${seconds.toFixed(1)} s`);
  }
}

const percent = (accuracy: number | undefined) => (accuracy === undefined ? '-' : `${(100 * accuracy).toFixed(1)} %`);
