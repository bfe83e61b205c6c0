// `flatmin bench loop`: what it costs to train from Node, and how free the event loop stays meanwhile.
// `Trainer.fit`, its events read, takes turns with the same run started and read from Rust: same loader, loop and events.
// The event loop is watched in turns of their own: the watch wakes a thread every millisecond, which costs the others time.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { ASAM, type Dataset, datasets, type Model, models, type Optimizer, SAM, SGD, Trainer } from '../index.js';
import { alternate, type BenchSettings, type Contender } from './alternate.js';
import { type Method, optimizerConfig } from './methods.js';
import { openBench } from './ours.js';
import { timesOf } from './peer.js';
import { median, rounded, series } from './statistics.js';

/** Settings of the bench. */
export interface LoopBenchOptions extends BenchSettings {
  readonly model: string;
  readonly optimizer: Method;
  readonly batch: number;
}

/** Runs the bench and gives its result, without the environment. */
export async function benchLoop(options: LoopBenchOptions): Promise<Record<string, unknown>> {
  const { model: name, optimizer, batch, threads, seed } = options;
  const rust = openBench('loop', { model: name, optimizer: optimizerConfig(optimizer), batch, seed }, threads);
  using model = models.create(name, { seed });
  const steps = new Steps(model, options);
  const node = new NodeLoop(steps);
  const watched = new WatchedLoop(steps);
  for (const contender of [rust, node]) await contender.run(options.warmup);
  const [inRust, inNode] = await alternate([rust, node, watched], options);
  const rustMs = (inRust?.rounds ?? []).map((round) => median(timesOf(round, 'stepMs')));
  const nodeMs = (inNode?.rounds ?? []).map((round) => median(timesOf(round, 'stepMs')));
  return {
    ...{ model: name, optimizer, batch, threads, seed, rounds: options.rounds, stepsPerRound: options.steps },
    rustStepMs: series(rustMs),
    nodeStepMs: series(nodeMs),
    cost: rounded(median(nodeMs) / median(rustMs) - 1),
    costPerRound: series(nodeMs.map((ms, round) => ms / (rustMs[round] ?? Number.NaN) - 1)),
    eventLoopDelayMs: watched.delays(),
  };
}

/** Training from JavaScript, for both ways of looking at it: one model, one optimizer. */
class Steps {
  readonly #model: Model;
  readonly #optimizer: Optimizer;
  readonly #options: LoopBenchOptions;

  constructor(model: Model, options: LoopBenchOptions) {
    const base = new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 5e-4 });
    this.#model = model;
    this.#options = options;
    this.#optimizer = options.optimizer === 'sgd' ? base : options.optimizer === 'sam' ? new SAM(base) : new ASAM(base);
  }

  /** A trainer of one epoch with so many steps, its data in memory. */
  trainer(steps: number): Trainer {
    const { batch: batchSize, threads, seed } = this.#options;
    const train = syntheticImages(this.#model, steps * batchSize, seed);
    return new Trainer({ model: this.#model, optimizer: this.#optimizer, train, epochs: 1, batchSize, threads, seed });
  }
}

/** Mean time of the steps of a run whose events are read. */
class NodeLoop implements Contender {
  readonly name = 'Trainer.fit';
  readonly #steps: Steps;

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  async run(steps: number): Promise<{ stepMs: number[] }> {
    const run = this.#steps.trainer(steps).fit();
    for await (const _event of run);
    const { epochs } = await run;
    const seconds = epochs[0]?.seconds ?? Number.NaN;
    return { stepMs: [(1000 * seconds) / steps] };
  }
}

/** The delay of the event loop during such a run. */
class WatchedLoop implements Contender {
  readonly name = 'Trainer.fit, event loop watched';
  readonly #steps: Steps;
  readonly #delays: { p50: number; p99: number; max: number }[] = [];

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  async run(steps: number): Promise<Record<string, never>> {
    const trainer = this.#steps.trainer(steps);
    const monitor = monitorEventLoopDelay({ resolution: 1 });
    monitor.enable();
    for await (const _event of trainer.fit());
    monitor.disable();
    const at = (percentile: number) => monitor.percentile(percentile) / 1e6;
    this.#delays.push({ p50: at(50), p99: at(99), max: monitor.max / 1e6 });
    return {};
  }

  /** Delay of a timer of 1 ms, so about 1 ms on a free loop: the median and the worst of the turns. */
  delays(): Record<string, number> {
    const worst = (values: number[]) => rounded(Math.max(...values));
    return {
      p50: rounded(median(this.#delays.map(({ p50 }) => p50))),
      p99: worst(this.#delays.map(({ p99 }) => p99)),
      max: worst(this.#delays.map(({ max }) => max)),
    };
  }
}

/** Noise as images: what is in them does not change the time. */
function syntheticImages(model: Model, count: number, seed: number): Dataset {
  const [channels, height, width] = model.inputShape;
  let state = seed + 1;
  const images = Uint8Array.from({ length: count * height * width * channels }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
  const labels = Uint32Array.from({ length: count }, (_, index) => index % model.numClasses);
  return datasets.fromArrays({
    images,
    labels,
    shape: [height, width, channels],
    numClasses: model.numClasses,
    name: 'noise',
  });
}
