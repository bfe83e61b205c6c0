// `flatmin bench train`: whole training steps on synthetic images, run by the addon's own loop, beside PyTorch's variants.
import { call } from '../call.js';
import type { Device } from '../device.js';
import type { ModelSpec } from '../model-spec.js';
import { loadNative } from '../native/index.js';
import type { ModelDtype } from '../options/fields.js';
import { type Answers, alternate, type BenchSettings, type Contender } from './alternate.js';
import { type Method, optimizerConfig } from './methods.js';
import { openBench } from './ours.js';
import { contender, type PeerHead, peerPython, type Started, timesOf, tryPeer } from './peer.js';
import { median, rounded, series } from './statistics.js';

/** Variants of the PyTorch peer on each kind of device; what the parts of a name mean stands in the peer. */
export const VARIANTS = {
  cpu: [
    'nchw',
    'channels_last',
    'channels_last_bf16',
    'nchw_compiled',
    'channels_last_compiled',
    'channels_last_bf16_compiled',
  ],
  cuda: [
    'nchw',
    'channels_last_bf16',
    'channels_last_bf16_foreach',
    'channels_last_bf16_foreach_compiled',
    'channels_last_bf16_foreach_graph',
    'channels_last_bf16_foreach_compiled_graph',
  ],
} as const;

/** A variant of either. */
export type PeerVariant = (typeof VARIANTS)['cpu' | 'cuda'][number];

/** Settings of the bench. */
export interface TrainBenchOptions extends BenchSettings {
  readonly model: string;
  readonly optimizer: Method;
  readonly batch: number;
  readonly dtype: ModelDtype;
  readonly device: Device;
  readonly peer: boolean;
  /** Default: all of the device. */
  readonly variants?: readonly PeerVariant[] | undefined;
  /** Seconds that each may take to get warm. */
  readonly peerTimeout?: number | undefined;
}

/** Runs the bench and gives its result, without the environment. */
export async function benchTrain(options: TrainBenchOptions): Promise<Record<string, unknown>> {
  const { model, optimizer, batch, dtype, device, threads, seed } = options;
  const ours = openTrain(optimizer, options);
  await ours.run(options.warmup);
  const started = options.peer ? await startPeers(options) : [];
  try {
    const contenders: Contender[] = [
      ours,
      ...started.flatMap(({ name, peer }) => (peer === undefined ? [] : [contender(name, peer)])),
    ];
    const answers = await alternate(contenders, options);
    const mine = answers[0];
    if (mine === undefined) return {};
    const peers = started.map(({ name, head, error }) => {
      const theirs = answers.find((answer) => answer.name === name);
      return theirs === undefined
        ? { name, error }
        : { name, ...figures(theirs, batch), ...comparison(mine, theirs), ...about(head) };
    });
    return {
      ...{ model, optimizer, batch, dtype, device, ...figures(mine, batch), peers },
      ...{ threads, seed, rounds: options.rounds, stepsPerRound: options.steps },
    };
  } finally {
    for (const { peer } of started) await peer?.[Symbol.asyncDispose]();
  }
}

const openTrain = (
  method: Method,
  { model, batch, dtype, device, threads, seed }: Omit<TrainBenchOptions, 'optimizer' | 'peer'>,
) => openBench('train', { model, optimizer: optimizerConfig(method), batch, dtype, device, seed }, threads, method);

/** Starts the variants one after the other. */
async function startPeers(options: TrainBenchOptions): Promise<Started[]> {
  const { model, optimizer, batch, device, threads, warmup, peerTimeout } = options;
  const python = await peerPython('models');
  const { inputShape, numClasses } = call(() => loadNative().zooSpec(model, {})) as ModelSpec;
  const started: Started[] = [];
  for (const name of options.variants ?? VARIANTS[device === 'cpu' ? 'cpu' : 'cuda']) {
    options.onBlock?.(0, name);
    const shape = { 'input-shape': inputShape, 'num-classes': numClasses };
    const args = { model, ...shape, optimizer, variant: name, batch, device, threads, warmup };
    started.push(await tryPeer(name, python, 'torch_asam_train.py', args, peerTimeout));
  }
  return started;
}

function figures(answers: Answers, batch: number): Record<string, unknown> {
  const times = series(answers.rounds.flatMap((round) => timesOf(round, 'stepMs')));
  const { peakRssBytes, peakDeviceBytes } = answers.rounds.at(-1) ?? {};
  return {
    stepMs: times.median,
    imagesPerSecond: rounded((1000 * batch) / times.median),
    spread: { stepMs: times },
    peakMemoryBytes: peakRssBytes,
    ...(peakDeviceBytes !== undefined && { peakDeviceBytes }),
  };
}

const about = ({ versions, hardware, tf32 }: PeerHead = {}) => ({ versions, hardware, tf32 });

/** How many times as fast ours is: over all steps, and the spread over the rounds. */
function comparison(mine: Answers, theirs: Answers): Record<string, unknown> {
  const middle = (round: Answers['rounds'][number] | undefined) => median(timesOf(round ?? {}, 'stepMs'));
  const ratios = mine.rounds.map((round, index) => middle(theirs.rounds[index]) / middle(round));
  const every = (answers: Answers) => median(answers.rounds.flatMap((round) => timesOf(round, 'stepMs')));
  return { speedup: rounded(every(theirs) / every(mine)), speedupPerRound: series(ratios) };
}

/** Several methods in turns, each as a multiple of the first one's time in the same round. */
export async function benchMethods(methods: readonly Method[], options: Omit<TrainBenchOptions, 'optimizer' | 'peer'>) {
  const { model, batch, dtype, device, threads, seed, rounds, steps } = options;
  const contenders: Contender[] = [];
  for (const name of methods) {
    options.onBlock?.(0, name);
    const bench = openTrain(name, options);
    await bench.run(options.warmup);
    contenders.push(bench);
  }
  const answers = await alternate(contenders, options);
  const [first] = answers;
  const mean = (round: Answers['rounds'][number] | undefined) => {
    const times = timesOf(round ?? {}, 'stepMs');
    return times.reduce((sum, time) => sum + time, 0) / times.length;
  };
  // Means of a block: the methods that make two passes now and then have no typical step.
  const optimizers = answers.map((answer) => {
    const relative = answer.rounds.map((round, index) => mean(round) / mean(first?.rounds[index]));
    return { name: answer.name, stepMs: series(answer.rounds.map(mean)), relative: series(relative) };
  });
  return {
    ...{ model, batch, dtype, device, relativeTo: first?.name, optimizers },
    ...{ threads, seed, rounds, stepsPerRound: steps },
  };
}
