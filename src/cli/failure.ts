// How a command fails: what is printed for which error, and with which exit code.
// Wrong usage (2) and failure (1) are told apart so that scripts can, and a stack is printed only when asked for.

/** Exit codes of every command: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C. */
export const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

/** A wrong command line or config file: printed without a stack, exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

interface CodedError extends Error {
  readonly code: string;
}

const USAGE_CODES = new Set(['ERR_FLATMIN_OPTION', 'ERR_FLATMIN_NAME']);

/** True for errors of the library, which carry a code and a message written for users. */
export function isCoded(error: unknown): error is CodedError {
  return (
    error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('ERR_FLATMIN_')
  );
}

/** The exit code that an error asks for. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  return isCoded(error) && USAGE_CODES.has(error.code) ? EXIT.usage : EXIT.failure;
}

/** What is printed on stderr for an error; `verbose` adds stacks and causes. */
export function describeFailure(error: unknown, verbose: boolean): string {
  if (!(error instanceof Error)) return `error ${String(error)}`;
  const headline = isCoded(error)
    ? `error ${error.code}: ${error.message}`
    : error instanceof UsageError
      ? `error: ${error.message}`
      : `error ERR_FLATMIN_INTERNAL: ${error.message}`;
  if (!verbose)
    return isCoded(error) || error instanceof UsageError
      ? headline
      : `${headline}\n(run again with --verbose for the stack)`;
  const stacks = [error.stack ?? ''];
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause)
    stacks.push(`caused by ${cause.stack ?? cause.message}`);
  return [headline, ...stacks].join('\n');
}
