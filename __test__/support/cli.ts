// Runs the CLI as users do: as a process of its own, whose streams and exit code are looked at.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ENTRY = fileURLToPath(new URL('../../bin/flatmin.js', import.meta.url));

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

interface CliOptions {
  cwd?: string;
  /** Called with all of stdout so far; may send the process a signal. */
  onOutput?: (stdout: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs `flatmin ...args` to its end. */
export function flatmin(args: readonly string[], { cwd, onOutput }: CliOptions = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [ENTRY, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    const result: CliResult = { code: null, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      result.stdout += chunk;
      onOutput?.(result.stdout, (signal) => child.kill(signal));
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      result.stderr += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ ...result, code }));
  });
}

/** The JSON lines of a stream; a line that is not JSON throws. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
