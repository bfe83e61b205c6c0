// Runs a PyTorch peer as a server: it warms up once, then times blocks of steps whenever it is asked to.
// So ours and theirs can alternate within one run and share whatever the machine does meanwhile.
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FlatminError } from '../errors.js';
import type { Contender } from './alternate.js';

/** What a peer says when it is ready: versions and what it runs. */
export type PeerHead = Readonly<Record<string, unknown>>;

const FOLDER = fileURLToPath(new URL('../../benchmarks/peers/', import.meta.url));

/** The Python of the peers' virtual environment, which is made when it is missing; `models` adds the libraries of models. */
export async function peerPython(addition?: 'models'): Promise<string> {
  const script = `${FOLDER}venv.sh`;
  if (!existsSync(script)) {
    throw new FlatminError(
      'ERR_FLATMIN_PATH',
      `${script}: not found; the PyTorch peers lie in a clone of the repository, not in the package`,
    );
  }
  try {
    const { stdout } = await promisify(execFile)('bash', addition ? [script, addition] : [script], {
      maxBuffer: 2 ** 26,
    });
    return stdout.trim();
  } catch (error) {
    throw new FlatminError(
      'ERR_FLATMIN_SETUP',
      `The environment of the PyTorch peers could not be made: ${messageOf(error)}`,
      error,
    );
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** A running peer. */
export class Peer implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #lines: AsyncIterator<string>;
  readonly #name: string;
  #errors = '';

  private constructor(name: string, python: string, script: string, args: readonly string[]) {
    this.#name = name;
    this.#child = spawn(python, [`${FOLDER}${script}`, '--serve', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString('utf8')).slice(-4000);
    });
    // A peer that dies is noticed where its next line is awaited.
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#child.stdin.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Starts a peer and waits until it is warm, for so many seconds if a number is given. */
  static async start(
    name: string,
    python: string,
    script: string,
    args: readonly string[],
    seconds?: number,
  ): Promise<{ peer: Peer; head: PeerHead }> {
    const peer = new Peer(name, python, script, args);
    const patience = new AbortController();
    try {
      const waits = seconds === undefined ? [] : [tooLate(name, seconds, patience.signal)];
      return { peer, head: await Promise.race([peer.#next(), ...waits]) };
    } catch (error) {
      await peer[Symbol.asyncDispose]();
      throw error;
    } finally {
      patience.abort();
    }
  }

  /** Times `steps` steps; arrays of milliseconds by name, and the peer's peak memory. */
  async run(steps: number): Promise<Readonly<Record<string, unknown>>> {
    this.#child.stdin.write(`${JSON.stringify({ run: steps })}\n`);
    return this.#next();
  }

  async #next(): Promise<PeerHead> {
    const { value, done } = await this.#lines.next();
    if (done === true) {
      // Its last words may still be under way.
      await finished(this.#child.stderr).catch(() => {});
      throw new FlatminError(
        'ERR_FLATMIN_INTERNAL',
        `The peer '${this.#name}' ended: ${this.#errors.trim().slice(-2000)}`,
      );
    }
    const answer = JSON.parse(value) as PeerHead;
    if (typeof answer.error === 'string')
      throw new FlatminError('ERR_FLATMIN_INTERNAL', `The peer '${this.#name}': ${answer.error}`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      // Not its streams' end: processes of its own may hold them a little longer.
      this.#child.once('exit', () => resolve());
      this.#child.kill();
    });
  }
}

/** Rejects after so many seconds, unless it is called off. */
async function tooLate(name: string, seconds: number, signal: AbortSignal): Promise<never> {
  await setTimeout(1000 * seconds, undefined, { signal });
  throw new FlatminError('ERR_FLATMIN_INTERNAL', `The peer '${name}' was not warm after ${seconds} s`);
}

/** A peer that was started, or what keeps it from running here. */
export interface Started {
  readonly name: string;
  readonly peer?: Peer;
  readonly head?: PeerHead;
  readonly error?: string;
}

/**
 * Starts a peer with these options; one that cannot run here (no compiler for torch.compile, say) or is not warm within so many
 * seconds is told, not fatal.
 */
export async function tryPeer(
  name: string,
  python: string,
  script: string,
  options: Readonly<Record<string, unknown>>,
  seconds?: number,
): Promise<Started> {
  const flags = Object.entries(options).flatMap(([key, value]) => [`--${key}`, String(value)]);
  try {
    return { name, ...(await Peer.start(name, python, script, flags, seconds)) };
  } catch (error) {
    return { name, error: messageOf(error) };
  }
}

/** A peer of steps, as one that takes turns. */
export const contender = (name: string, peer: Peer): Contender => ({
  name,
  run: async (steps) => {
    const answer = await peer.run(steps);
    return { ...answer, stepMs: timesOf(answer, 'ms') };
  },
});

/** The array of milliseconds of that name in an answer. */
export function timesOf(answer: Readonly<Record<string, unknown>>, name: string): number[] {
  const values = answer[name];
  if (Array.isArray(values) && values.every((value) => typeof value === 'number')) return values;
  throw new FlatminError(
    'ERR_FLATMIN_INTERNAL',
    `A bench gave no list '${name}' of times; found ${JSON.stringify(answer).slice(0, 200)}`,
  );
}
