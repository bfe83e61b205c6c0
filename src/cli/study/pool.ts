// The processes of a study: each makes the next net of the queue as soon as it has finished one. Processes, not threads: each
// has its own compute thread, so that nets are measured side by side as well as trained.
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { FlatminError } from '../../index.js';
import type { PlannedNet, StudyOptions } from './plan.js';
import type { NetRecord } from './record.js';
import type { Answer, Order } from './worker.js';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));

interface PoolOptions {
  readonly options: StudyOptions;
  readonly jobs: number;
  /** Ends the study: nets in progress are given up. */
  readonly signal: AbortSignal;
  readonly onRecord: (record: NetRecord) => void;
}

/** Makes all nets, or those that were finished before the signal. @throws what a process could not do. */
export async function makeNets(nets: readonly PlannedNet[], pool: PoolOptions): Promise<void> {
  const queue = [...nets];
  const count = Math.min(pool.jobs, nets.length);
  const failed = new AbortController();
  const signal = AbortSignal.any([pool.signal, failed.signal]);
  const workers = Array.from({ length: count }, () =>
    work(queue, { ...pool, signal }).catch((error: unknown) => {
      failed.abort();
      throw error;
    }),
  );
  for (const outcome of await Promise.allSettled(workers)) if (outcome.status === 'rejected') throw outcome.reason;
}

/** One process, until the queue is empty. */
function work(queue: PlannedNet[], { options, signal, onRecord }: PoolOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return resolve();
    const child = fork(WORKER, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const stop = () => child.connected && child.disconnect();
    let broken: FlatminError | undefined;
    signal.addEventListener('abort', stop, { once: true });
    child.on('message', (answer: Answer) => {
      if (answer.type === 'broken') {
        broken = new FlatminError(answer.code, answer.message);
        stop();
        return;
      }
      if (answer.type === 'done') onRecord(answer.record);
      const net = signal.aborted ? undefined : queue.shift();
      if (net === undefined) stop();
      else tell(child, { type: 'net', net });
    });
    child.once('error', reject);
    child.once('exit', (code, killed) => {
      signal.removeEventListener('abort', stop);
      if (broken !== undefined) reject(broken);
      else if (code !== 0 && !signal.aborted)
        reject(new Error(`a process of the study ended early (${killed ?? `code ${code}`})`));
      else resolve();
    });
    tell(child, { type: 'begin', options });
  });
}

const tell = (child: ChildProcess, order: Order) => child.connected && child.send(order);
