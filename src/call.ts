// The one place where calls into the native side are made, so that each of its errors becomes a FlatminError.

import { FlatminError, fromNative } from './errors.js';

/** Runs native work, synchronous or not, and translates its error. */
export function call<T>(work: () => Promise<T>): Promise<T>;
export function call<T>(work: () => T): T;
export function call<T>(work: () => T | Promise<T>): T | Promise<T> {
  try {
    const result = work();
    return result instanceof Promise ? result.catch((error: unknown) => Promise.reject(fromNative(error))) : result;
  } catch (error) {
    throw fromNative(error);
  }
}

/** The native object, or the error of a thing that was disposed of. */
export function alive<T>(native: T | undefined, what: string): T {
  if (native !== undefined) return native;
  throw new FlatminError('ERR_FLATMIN_DISPOSED', `This ${what} was disposed of; create a new one`);
}
