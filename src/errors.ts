// The one error class users meet, and the reading of errors that the native side reports as JSON.
// `code` is stable and meant for programs; `message` says what was found, what was expected and how to fix it.

/** Every code an error of this package can carry. */
export const errorCodes = [
  'ERR_FLATMIN_OPTION',
  'ERR_FLATMIN_SHAPE',
  'ERR_FLATMIN_DTYPE',
  'ERR_FLATMIN_PATH',
  'ERR_FLATMIN_FORMAT',
  'ERR_FLATMIN_NAME',
  'ERR_FLATMIN_STEP_ORDER',
  'ERR_FLATMIN_BUSY',
  'ERR_FLATMIN_DISPOSED',
  'ERR_FLATMIN_PLATFORM',
  'ERR_FLATMIN_LIBTORCH',
  'ERR_FLATMIN_LIBTORCH_VERSION',
  'ERR_FLATMIN_ADDON',
  'ERR_FLATMIN_DEVICE',
  'ERR_FLATMIN_CHECKSUM',
  'ERR_FLATMIN_SETUP',
  'ERR_FLATMIN_CHECKPOINT',
  'ERR_FLATMIN_DATA',
  'ERR_FLATMIN_NON_FINITE',
  'ERR_FLATMIN_TORCH',
  'ERR_FLATMIN_INTERNAL',
] as const;

/** Code of a {@link FlatminError}. */
export type ErrorCode = (typeof errorCodes)[number];

/** What everything in this package throws or rejects with, apart from AbortError. */
export class FlatminError extends Error {
  override readonly name = 'FlatminError';
  /** Stable name of what went wrong, such as `ERR_FLATMIN_SHAPE`. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

function isErrorCode(code: unknown): code is ErrorCode {
  return (errorCodes as readonly unknown[]).includes(code);
}

/**
 * Turns whatever a native call threw into a {@link FlatminError}. The native side puts `{"code", "message"}` as JSON
 * into the message; anything else (a wrong argument type seen by N-API itself) becomes `ERR_FLATMIN_OPTION` or `_INTERNAL`.
 */
export function fromNative(error: unknown): FlatminError {
  if (error instanceof FlatminError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const parsed = parseReason(text);
  if (parsed !== undefined) return new FlatminError(parsed.code, parsed.message, error);
  return new FlatminError(isArgumentError(error) ? 'ERR_FLATMIN_OPTION' : 'ERR_FLATMIN_INTERNAL', text, error);
}

function parseReason(text: string): { code: ErrorCode; message: string } | undefined {
  if (!text.startsWith('{')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { code, message } = value as { code?: unknown; message?: unknown };
  return isErrorCode(code) && typeof message === 'string' ? { code, message } : undefined;
}

// N-API's own status names for arguments of a wrong type, as napi-rs writes them into `error.code`.
const ARGUMENT_STATUSES = new Set([
  'InvalidArg',
  'ObjectExpected',
  'StringExpected',
  'FunctionExpected',
  'NumberExpected',
  'BooleanExpected',
  'ArrayExpected',
  'BigintExpected',
  'ArrayBufferExpected',
  'DateExpected',
]);

function isArgumentError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ARGUMENT_STATUSES.has(String(error.code));
}
