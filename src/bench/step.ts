// `flatmin bench step`: the ascent and descent step alone, without any forward or backward pass, on ResNet-50's parameters.
// Timed is everything between the backward passes, clearing or gathering the gradients included. The peers are the published code
// and the package pytorch_optimizer; the roof is a copy of the same arena.
import { FlatminError } from '../errors.js';
import { type Answers, alternate, type BenchSettings, type Contender } from './alternate.js';
import { METHODS, type Method, optimizerConfig, TRAFFIC } from './methods.js';
import { openBench } from './ours.js';
import { Peer, type PeerHead, peerPython, timesOf } from './peer.js';
import { median, rounded, series } from './statistics.js';

/** ResNet-50's parameters, as the addon's bench builds them. A peer tells its own count, and a difference is an error. */
const PARAMETERS = { parameters: 25_557_032, tensors: 161 };
const ARENA_BYTES = 4 * PARAMETERS.parameters;

/** Peers of the update: the structure of the published code, and a package that people install. */
export const STEP_PEERS = ['published', 'pytorch_optimizer'] as const;
type StepPeer = (typeof STEP_PEERS)[number];

/** Settings of the bench. */
export interface StepBenchOptions extends BenchSettings {
  readonly optimizer: Method | 'all';
  readonly peer: boolean;
}

interface Started {
  readonly name: StepPeer;
  readonly peer: Peer;
  readonly head: PeerHead;
}

/** Runs the bench and gives its result, without the environment. */
export async function benchStep(options: StepBenchOptions): Promise<Record<string, unknown>> {
  const methods: Method[] =
    options.optimizer === 'all' ? METHODS.filter((name) => name !== 'sgd') : [options.optimizer];
  // SAM's published forms are SAM and ASAM; other methods have no peer here.
  const peerMethod = options.optimizer === 'sam' ? 'sam' : 'asam';
  const started = options.peer ? await startPeers(peerMethod, options) : [];
  try {
    const ours: Contender[] = [];
    for (const name of methods) {
      const bench = openBench('step', { optimizer: optimizerConfig(name), seed: options.seed }, options.threads, name);
      await bench.run(options.warmup);
      ours.push(bench);
    }
    const theirs = started.map(({ name, peer }): Contender => ({ name, run: (steps) => peer.run(steps) }));
    const answers = await alternate([...ours, ...theirs], options);
    const of = (name: string) => answers.find((answer) => answer.name === name);
    const reference = of(peerMethod);
    const peers = started.flatMap(({ name, head }) => {
      const answer = of(name);
      if (answer === undefined || reference === undefined) return [];
      return [{ name, optimizer: peerMethod, ...figures(answer), ...comparison(reference, answer), ...about(head) }];
    });
    const [first] = peers;
    return {
      ...PARAMETERS,
      ...(options.optimizer === 'all'
        ? { optimizers: answers.slice(0, methods.length).map(method) }
        : { optimizer: options.optimizer, ...method(answers[0]) }),
      ...(first !== undefined && { peer: first, speedup: first.speedup, peers }),
      ...{ threads: options.threads, rounds: options.rounds, stepsPerRound: options.steps },
    };
  } finally {
    for (const { peer } of started) await peer[Symbol.asyncDispose]();
  }
}

async function startPeers(method: 'sam' | 'asam', { threads, warmup }: StepBenchOptions): Promise<Started[]> {
  const python = await peerPython();
  const started: Started[] = [];
  for (const name of STEP_PEERS) {
    const args = ['--optimizer', method, '--peer', name, '--threads', String(threads), '--warmup', String(warmup)];
    const { peer, head } = await Peer.start(name, python, 'torch_asam_step.py', args);
    started.push({ name, peer, head });
    const { parameters, tensors } = head;
    if (parameters === PARAMETERS.parameters && tensors === PARAMETERS.tensors) continue;
    for (const { peer } of started) await peer[Symbol.asyncDispose]();
    throw new FlatminError(
      'ERR_FLATMIN_INTERNAL',
      `The peer steps ${String(parameters)} parameters in ${String(tensors)} tensors, expected ${JSON.stringify(PARAMETERS)}`,
    );
  }
  return started;
}

const all = (answers: Answers, name: string) => answers.rounds.flatMap((round) => timesOf(round, name));
const totals = (times: Answers['rounds'][number]) =>
  timesOf(times, 'ascentMs').map((ascent, index) => ascent + (timesOf(times, 'descentMs')[index] ?? Number.NaN));
const about = ({ versions, threads }: PeerHead) => ({ versions, threads });

function figures(answers: Answers): Record<string, unknown> {
  const ascent = series(all(answers, 'ascentMs'));
  const descent = series(all(answers, 'descentMs'));
  return { ascentMs: ascent.median, descentMs: descent.median, spread: { ascentMs: ascent, descentMs: descent } };
}

/** The figures of one of ours, with the share of the memory's speed that it reaches where its traffic is known. */
function method(answers: Answers | undefined): Record<string, unknown> {
  if (answers === undefined) return {};
  return { name: answers.name, ...figures(answers), ...roofline(answers) };
}

function roofline(answers: Answers): Record<string, unknown> {
  const traffic = TRAFFIC[answers.name as Method];
  if (traffic === undefined) return {};
  const gigabytesPerSecond = (arrays: number, ms: number) => (arrays * ARENA_BYTES) / ms / 1e6;
  const arrays = traffic.ascent + traffic.descent;
  const perRound = answers.rounds.map((round) => {
    const copy = gigabytesPerSecond(2, median(timesOf(round, 'copyMs')));
    return { copy, ours: gigabytesPerSecond(arrays, median(totals(round))) };
  });
  return {
    bytes: arrays * ARENA_BYTES,
    gigabytesPerSecond: rounded(median(perRound.map(({ ours }) => ours))),
    copyGigabytesPerSecond: rounded(median(perRound.map(({ copy }) => copy))),
    shareOfCopy: series(perRound.map(({ ours, copy }) => ours / copy)),
  };
}

function comparison(mine: Answers, theirs: Answers): { speedup: number; speedupPerRound: object } {
  const ratios = mine.rounds.map((round, index) => median(totals(theirs.rounds[index] ?? {})) / median(totals(round)));
  const overall = median(theirs.rounds.flatMap(totals)) / median(mine.rounds.flatMap(totals));
  return { speedup: rounded(overall), speedupPerRound: series(ratios) };
}
