// How the command line and config files write optimizers with their options, and sweeps of an option.
// A comma parts optimizers as well as options and values, so a piece without a name of its own belongs to the one before it.
import { UsageError } from '../failure.js';
import type { Values } from '../optimizers.js';
import { numberOrText } from '../options.js';

/** A swept value. */
export type SweptValue = number | string | boolean;

/** `sam`, `asam:rho=1` or `{ optimizer: 'asam', rho: 1 }`. */
export type SpecForm = string | Values;

/** `rho=0.1`, `asam:rho=1`, further values, or all values by option. */
export type SweepForm = readonly string[] | Readonly<Record<string, readonly SweptValue[]>>;

/** An optimizer and the options that were written beside it. */
export interface Spec {
  readonly optimizer: string;
  readonly given: Values;
}

/** An option and the values it takes. */
export interface Sweep {
  /** The only optimizer that is swept; without one, all that have the option. */
  readonly optimizer: string | undefined;
  readonly option: string;
  readonly values: readonly SweptValue[];
}

/** Joins `asam:rho=1` and `eta=0.01`, which a comma has parted, and reads both forms. */
export function parseSpecs(pieces: readonly SpecForm[]): Spec[] {
  const specs: { optimizer: string; given: Record<string, unknown> }[] = [];
  for (const piece of pieces) {
    if (typeof piece !== 'string') {
      specs.push(specOf(piece));
      continue;
    }
    const [, name, rest] = /^(?:([^:=]+):)?(.*)$/.exec(piece.trim()) ?? [];
    if (name === undefined && rest?.includes('=') === false) {
      specs.push({ optimizer: rest, given: {} });
      continue;
    }
    if (name !== undefined) specs.push({ optimizer: name, given: {} });
    const [key, value] = assignment(rest ?? '', '--optimizers', 'sam:rho=0.1');
    const spec = specs.at(-1);
    if (spec === undefined)
      throw new UsageError(`--optimizers: '${piece}' names no optimizer; expected a form such as sam:rho=0.1`);
    spec.given[key] = readValue(value);
  }
  return specs;
}

function specOf({ optimizer, ...given }: Values): { optimizer: string; given: Record<string, unknown> } {
  if (typeof optimizer === 'string') return { optimizer, given };
  throw new UsageError(`optimizers: found an entry without 'optimizer', expected one such as { optimizer: sam }`);
}

function assignment(text: string, flag: string, example: string): [key: string, value: string] {
  const match = /^([^=]+)=(.+)$/.exec(text.trim());
  if (match?.[1] !== undefined && match[2] !== undefined) return [match[1].trim(), match[2].trim()];
  throw new UsageError(`${flag}: found '${text}', expected an option and its value such as ${example}`);
}

const readValue = (text: string): SweptValue =>
  text === 'true' || text === 'false' ? text === 'true' : numberOrText(text);

/** Reads the sweeps, each optimizer-wide or for one optimizer alone. */
export function parseSweeps(sweep: SweepForm): Sweep[] {
  if (!isList(sweep))
    return Object.entries(sweep).map(([key, values]) => ({ ...sweptOption(key), values: checkValues(key, values) }));
  const sweeps: { key: string; values: SweptValue[] }[] = [];
  for (const piece of sweep) {
    if (!piece.includes('=')) {
      const last = sweeps.at(-1);
      if (last === undefined) assignment(piece, '--sweep', 'rho=0.05,0.1');
      last?.values.push(readValue(piece.trim()));
      continue;
    }
    const [key, value] = assignment(piece, '--sweep', 'rho=0.05,0.1');
    sweeps.push({ key, values: [readValue(value)] });
  }
  return sweeps.map(({ key, values }) => ({ ...sweptOption(key), values: checkValues(key, values) }));
}

const isList = (sweep: SweepForm): sweep is readonly string[] => Array.isArray(sweep);

function sweptOption(key: string): { optimizer: string | undefined; option: string } {
  const [first, second] = key.split(':');
  return second === undefined ? { optimizer: undefined, option: key } : { optimizer: first, option: second };
}

function checkValues(key: string, values: readonly SweptValue[]): readonly SweptValue[] {
  if (values.length > 0 && new Set(values).size === values.length) return values;
  throw new UsageError(`--sweep ${key}: found ${values.join(',') || 'no value'}, expected different values`);
}
