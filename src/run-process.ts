// Which process trains a run: kept in its config.json, so that whoever reads the folder can tell a run that goes on from one
// that was cut off. Nothing is said of processes elsewhere, whose numbers mean nothing here.

import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';

const processSchema = z.object({
  pid: z.number(),
  host: z.string(),
  /** Containers of one host may have numbers of their own. */
  namespace: z.string(),
  /** In ticks since the host started: tells a process from a later one of the same number. */
  started: z.string(),
});

const configSchema = z.object({ environment: z.object({ process: processSchema }) });

/** A process, told apart from all others. */
type RunProcess = z.output<typeof processSchema>;

/** This process; nothing where the system does not tell of it. */
export function thisProcess(): RunProcess | undefined {
  return attempt(() => {
    const { started } = statusOf('self');
    return { pid: process.pid, host: hostname(), namespace: readlinkSync('/proc/self/ns/pid'), started };
  });
}

/** True if the process that wrote this config.json ran here and has ended; false if it goes on or nothing is known of it. */
export function processIsGone(config: unknown): boolean {
  const [writer, here] = [configSchema.safeParse(config).data?.environment.process, thisProcess()];
  if (writer === undefined || writer.host !== here?.host || writer.namespace !== here.namespace) return false;
  const status = attempt(() => statusOf(writer.pid));
  if (status !== undefined) return status.dead || status.started !== writer.started;
  try {
    // Processes of other users may be hidden from /proc.
    process.kill(writer.pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** What Linux tells of a process (proc(5), `stat`). */
function statusOf(pid: number | 'self'): { dead: boolean; started: string } {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name before the last parenthesis may be anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state = '', started = ''] = [fields[0], fields[19]];
  // A zombie has ended, too: nobody has asked how.
  return { dead: 'ZX'.includes(state), started };
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
