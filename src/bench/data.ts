// `flatmin bench data`: images a second from a folder, on one thread and on all, beside PyTorch DataLoaders of three decoders.
import { type Answers, alternate, type BenchSettings, type Contender } from './alternate.js';
import { openBench } from './ours.js';
import { contender, peerPython, type Started, timesOf, tryPeer } from './peer.js';
import { median, rounded, series } from './statistics.js';

/** Decoders of the peer: Pillow as most recipes load, and two on libjpeg-turbo. */
export const DECODERS = ['pillow', 'torchvision', 'simplejpeg'] as const;

/** Settings of the bench. */
export interface DataBenchOptions extends BenchSettings {
  readonly dataDir: string;
  readonly size: number;
  readonly batch: number;
  readonly peer: boolean;
  /** Default: all of them. */
  readonly decoders?: readonly (typeof DECODERS)[number][] | undefined;
}

interface StartedDecoder extends Started {
  readonly decoder: string;
}

/** Runs the bench and gives its result, without the environment. */
export async function benchData(options: DataBenchOptions): Promise<Record<string, unknown>> {
  const { dataDir: folder, size, batch, seed, rounds, steps } = options;
  const counts = [...new Set([1, options.threads])];
  const ours = counts.map((threads) =>
    openBench('data', { folder, size, batch, threads, seed }, options.threads, `flatmin, ${threads} threads`),
  );
  for (const bench of ours) await bench.run(options.warmup);
  const started: StartedDecoder[] = [];
  try {
    if (options.peer) for (const threads of counts) started.push(...(await startPeers(options, threads)));
    const peers = started.flatMap(({ name, peer }): Contender[] => (peer === undefined ? [] : [contender(name, peer)]));
    const answers = await alternate([...ours, ...peers], options);
    const byName = new Map(answers.map((answer) => [answer.name, answer]));
    const [single] = answers;
    const perThreads = counts.map((threads, index) => {
      const mine = answers[index] as Answers;
      const theirs = started.filter(({ name }) => name.endsWith(threadsOf(threads)));
      return {
        threads,
        imagesPerSecond: series(rates(mine, batch)),
        imagesPerSecondPerCore: rounded(median(rates(mine, batch)) / threads),
        batchBytes: mine.rounds.at(-1)?.bytes,
        ...(single !== undefined && threads > 1 && { speedupOverOneThread: series(ratios(mine, single, batch)) }),
        peers: theirs.map(({ name, decoder, head, error }) => {
          const answer = byName.get(name);
          if (answer === undefined) return { decoder, error };
          const ratio = series(ratios(mine, answer, batch));
          return { decoder, imagesPerSecond: series(rates(answer, batch)), ratio, versions: head?.versions };
        }),
      };
    });
    return { ...{ dataDir: folder, size, batch, perThreads }, ...{ seed, rounds, batchesPerRound: steps } };
  } finally {
    for (const { peer } of started) await peer?.[Symbol.asyncDispose]();
  }
}

const threadsOf = (threads: number) => `, ${threads} threads`;

/** Images a second of each round, over its whole time: batches that were ready come in bunches. */
function rates({ rounds }: Answers, batch: number): number[] {
  return rounds.map((round) => {
    const times = timesOf(round, 'stepMs');
    return (1000 * batch * times.length) / times.reduce((sum, time) => sum + time, 0);
  });
}

function ratios(mine: Answers, theirs: Answers, batch: number): number[] {
  const others = rates(theirs, batch);
  return rates(mine, batch).map((rate, round) => rate / (others[round] ?? Number.NaN));
}

/** Starts a peer of each decoder. */
async function startPeers(options: DataBenchOptions, threads: number): Promise<StartedDecoder[]> {
  const { dataDir: folder, size, batch, warmup } = options;
  const python = await peerPython();
  const started: StartedDecoder[] = [];
  for (const decoder of options.decoders ?? DECODERS) {
    const name = `${decoder}${threadsOf(threads)}`;
    options.onBlock?.(0, name);
    const args = { folder, decoder, size, batch, threads, warmup };
    started.push({ decoder, ...(await tryPeer(name, python, 'torch_data.py', args)) });
  }
  return started;
}
