// `flatmin bench step`: the ascent and descent step alone, without any forward or backward pass, on ResNet-50's parameters.
// Timed is everything between the backward passes, clearing or gathering the gradients included; the peer is the published code.
import { FlatminError } from '../errors.js';
import { type Answers, alternate, type Contender } from './alternate.js';
import { openBench, optimizerConfig } from './ours.js';
import { Peer, type PeerHead, peerPython, timesOf } from './peer.js';
import { median, rounded, series } from './statistics.js';

/** ResNet-50's parameters, as the addon's bench builds them. The peer tells its own count, and a difference is an error. */
const PARAMETERS = { parameters: 25_557_032, tensors: 161 };

/** Settings of the bench. */
export interface StepBenchOptions {
  readonly optimizer: 'sam' | 'asam';
  readonly peer: boolean;
  readonly rounds: number;
  readonly steps: number;
  readonly warmup: number;
  readonly threads: number;
  readonly seed: number;
  readonly onBlock?: (round: number, name: string) => void;
}

/** Runs the bench and gives its result, without the environment. */
export async function benchStep(options: StepBenchOptions): Promise<Record<string, unknown>> {
  const ours = openBench(
    'step',
    { optimizer: optimizerConfig(options.optimizer), seed: options.seed },
    options.threads,
  );
  await ours.run(options.warmup);
  const started = options.peer ? await startPeer(options) : undefined;
  try {
    const contenders: Contender[] = [
      ours,
      ...(started === undefined ? [] : [{ name: 'published', run: (steps: number) => started.peer.run(steps) }]),
    ];
    const [mine, theirs] = await alternate(contenders, options);
    if (mine === undefined) return {};
    return {
      optimizer: options.optimizer,
      ...PARAMETERS,
      ...figures(mine),
      ...(theirs !== undefined && started !== undefined && comparison(mine, theirs, started.head)),
      threads: options.threads,
      rounds: options.rounds,
      stepsPerRound: options.steps,
    };
  } finally {
    await started?.peer[Symbol.asyncDispose]();
  }
}

async function startPeer({ optimizer, threads, warmup }: StepBenchOptions): Promise<{ peer: Peer; head: PeerHead }> {
  const args = ['--optimizer', optimizer, '--threads', String(threads), '--warmup', String(warmup)];
  const started = await Peer.start('published', await peerPython(), 'torch_asam_step.py', args);
  const { parameters, tensors } = started.head;
  if (parameters === PARAMETERS.parameters && tensors === PARAMETERS.tensors) return started;
  await started.peer[Symbol.asyncDispose]();
  throw new FlatminError(
    'ERR_FLATMIN_INTERNAL',
    `The peer steps ${String(parameters)} parameters in ${String(tensors)} tensors, expected ${JSON.stringify(PARAMETERS)}`,
  );
}

const all = (answers: Answers, name: string) => answers.rounds.flatMap((round) => timesOf(round, name));
const totals = (times: Answers['rounds'][number]) =>
  timesOf(times, 'ascentMs').map((ascent, index) => ascent + (timesOf(times, 'descentMs')[index] ?? Number.NaN));

function figures(answers: Answers): Record<string, unknown> {
  const ascent = series(all(answers, 'ascentMs'));
  const descent = series(all(answers, 'descentMs'));
  return { ascentMs: ascent.median, descentMs: descent.median, spread: { ascentMs: ascent, descentMs: descent } };
}

function comparison(mine: Answers, theirs: Answers, head: PeerHead): Record<string, unknown> {
  const ratios = mine.rounds.map((round, index) => median(totals(theirs.rounds[index] ?? {})) / median(totals(round)));
  const overall = median(theirs.rounds.flatMap(totals)) / median(mine.rounds.flatMap(totals));
  const { versions, threads } = head;
  return {
    peer: { name: 'published', ...figures(theirs), versions, threads },
    speedup: rounded(overall),
    speedupPerRound: series(ratios),
  };
}
