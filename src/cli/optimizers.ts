// The optimizers that the command line knows by name, and the flags that follow from their schemas.
// A new optimizer is one line in `optimizers`: its class, its schema and, where it has one, the radius it starts from.
import { z } from 'zod';
import type { Model, Optimizer } from '../index.js';
import * as flatmin from '../index.js';
import * as schemas from '../options/index.js';
import { asamPresets, parseOptions, samPresets, suggestion } from '../options/index.js';
import { UsageError } from './failure.js';
import { type FieldInfo, inspect } from './options.js';

/** Values by the name of their option. */
export type Values = Readonly<Record<string, unknown>>;

/** How the command line makes an optimizer. */
export interface OptimizerEntry {
  /** Its class's name, as tables show it. */
  readonly title: string;
  readonly schema: z.ZodObject;
  /** What the command line sets where the schema has another default. */
  readonly defaults: Values;
  /** Radius without options; undefined for an optimizer without a neighbourhood. */
  readonly rho: number | undefined;
  /** Whether it wraps a base optimizer. */
  readonly wraps: boolean;
  /** Makes it for a model, or around a base optimizer. */
  readonly create: (inner: Model | Optimizer, options: Values) => Optimizer;
}

// biome-ignore lint/suspicious/noExplicitAny: each class takes its own options, and its schema checks them
type OptimizerClass<Inner> = new (inner: Inner, options: any) => Optimizer;

const plain = (Class: OptimizerClass<Model>, schema: z.ZodObject, defaults: Values = {}): OptimizerEntry => ({
  ...{ title: Class.name, schema, defaults, rho: undefined, wraps: false },
  create: (model, options) => new Class(model as Model, options),
});

const around = (
  Class: OptimizerClass<Optimizer>,
  schema: z.ZodObject,
  rho = defaultOf(schema.shape.rho),
): OptimizerEntry => ({
  ...{ title: Class.name, schema, defaults: {}, rho, wraps: true },
  create: (base, options) => new Class(base as Optimizer, options),
});

const defaultOf = (field: z.core.$ZodType | undefined) => field && (inspect(field)?.default as number | undefined);

/** Every optimizer by its name on the command line. */
export const optimizers: Readonly<Record<string, OptimizerEntry>> = {
  sgd: plain(flatmin.SGD, schemas.sgdSchema, { momentum: 0.9, weightDecay: 5e-4 }),
  adam: plain(flatmin.Adam, schemas.adamSchema),
  adamw: plain(flatmin.AdamW, schemas.adamwSchema),
  sam: around(flatmin.SAM, schemas.samSchema, samPresets.paper.rho),
  asam: around(flatmin.ASAM, schemas.asamSchema, asamPresets.paper.rho),
  gsam: around(flatmin.GSAM, schemas.gsamSchema),
  looksam: around(flatmin.LookSAM, schemas.lookSamSchema),
  esam: around(flatmin.ESAM, schemas.esamSchema),
  rst: around(flatmin.RST, schemas.rstSchema),
  grst: around(flatmin.GRST, schemas.grstSchema),
  wsam: around(flatmin.WSAM, schemas.wsamSchema),
  fsam: around(flatmin.FSAM, schemas.fsamSchema),
  msam: around(flatmin.MSAM, schemas.msamSchema),
  samon: around(flatmin.SAMON, schemas.samOnSchema),
  random: around(flatmin.RandomPerturbation, schemas.randomPerturbationSchema),
  extragradient: around(flatmin.Extragradient, schemas.extragradientSchema),
};

/** Names of all optimizers. */
export const optimizerNames = Object.keys(optimizers);
const baseNames = optimizerNames.filter((name) => optimizers[name]?.wraps === false);

/** The optimizer of that name. @throws {@link UsageError} with the nearest right name. */
export function optimizerEntry(name: string): OptimizerEntry {
  const entry = Object.hasOwn(optimizers, name) ? optimizers[name] : undefined;
  if (entry !== undefined) return entry;
  throw new UsageError(
    `unknown optimizer '${name}'${suggestion(name, optimizerNames)} (one of ${optimizerNames.join(', ')})`,
  );
}

const SEED = 'seed';

/** An option as one of the optimizers that have it describes it. */
interface Owner {
  readonly name: string;
  readonly field: z.core.$ZodType;
  /** Nothing for an option that is an object: config files can set it, flags cannot. */
  readonly info: FieldInfo | undefined;
}

/** The options of optimizers, by key. A run has one seed, and an optimizer that draws at random gets it. */
function optionsOf(names: readonly string[]): Map<string, Owner[]> {
  const owners = new Map<string, Owner[]>();
  for (const name of names) {
    const { schema, defaults, rho } = optimizerEntry(name);
    for (const [key, field] of Object.entries(schema.shape)) {
      if (key === SEED) continue;
      const info = inspect(field);
      const value = defaults[key] ?? (key === 'rho' ? rho : info?.default);
      owners.set(key, [...(owners.get(key) ?? []), { name, field, info: info && { ...info, default: value } }]);
    }
  }
  return owners;
}

/** The flag of an option: never with a default, so that what was not given is left to the optimizer. */
function flagField(key: string, owners: readonly Owner[]): z.ZodType {
  const choices = [...new Set(owners.flatMap(({ info }) => info?.choices ?? []))];
  const inner = choices.length > 0 ? z.enum(choices as [string, ...string[]]) : withoutDefault(owners[0]?.field);
  return inner
    .optional()
    .describe(key === 'rho' ? `Radius of the neighbourhood${defaultText(owners)}` : optionText(owners));
}

function withoutDefault(field: z.core.$ZodType | undefined): z.ZodType {
  let inner = field as z.ZodType;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodOptional) inner = inner.unwrap() as z.ZodType;
  return inner;
}

/** Owners by what `text` says of them, the most first. */
function groupBy(owners: readonly Owner[], text: (owner: Owner) => string): [text: string, owners: Owner[]][] {
  const groups = new Map<string, Owner[]>();
  for (const owner of owners) groups.set(text(owner), [...(groups.get(text(owner)) ?? []), owner]);
  return [...groups].sort(([, a], [, b]) => b.length - a.length);
}

const namesOf = (owners: readonly Owner[]) => owners.map(({ name }) => name).join(', ');

/** More owners than this go without saying. */
const FEW = 3;

/** Description and default; where optimizers differ, what most mean comes first and the others follow with their names. */
function optionText(owners: readonly Owner[]): string {
  const [[text, most] = ['', []], ...others] = groupBy(
    owners,
    ({ info, field }) => info?.description ?? describe(field),
  );
  const named = most.length <= FEW ? ` [${namesOf(most)}]` : '';
  const further = others.map(([other, group]) => `; ${namesOf(group)}: ${other}${defaultText(group)}`);
  return [text, defaultText(most), named, ...further].join('');
}

const describe = (field: z.core.$ZodType) => z.globalRegistry.get(field)?.description ?? '';

function defaultText(owners: readonly Owner[]): string {
  const defaults = groupBy(owners, ({ info }) => [info?.default ?? []].flat().join(',')).filter(
    ([value]) => value !== '' && value !== 'false',
  );
  const [[value] = []] = defaults;
  if (value === undefined) return '';
  const text = defaults.map(([each, group]) => `${each} for ${namesOf(group)}`).join('; ');
  return ` (default: ${defaults.length === 1 ? value : text})`;
}

const allOptions = optionsOf(optimizerNames);
const baseOptions = optionsOf(baseNames);
const fieldsOf = (options: Map<string, Owner[]>) =>
  Object.fromEntries([...options].map(([key, owners]) => [key, flagField(key, owners)])) as object;

const base = z
  .enum(baseNames as [string, ...string[]])
  .default('sgd')
  .describe('Base optimizer of those that wrap one');

/** Whether an option belongs to some optimizer, and not to the run as a whole. */
export const isOptimizerOption = (key: string) => allOptions.has(key);

/** Flags of the base optimizers alone. */
export const baseFields = { base, ...fieldsOf(baseOptions) };

/** Which optimizer, and its settings. */
export const optimizerFields = {
  optimizer: z
    .enum(optimizerNames as [string, ...string[]])
    .default('asam')
    .describe('Optimizer'),
  base,
  ...fieldsOf(allOptions),
};

/** Which optimizer a command line asks for, beside its options. */
export interface OptimizerChoice {
  readonly optimizer: string;
  readonly base: string;
  /** Seed of the run. */
  readonly seed?: number;
}

/** Names of the options of an optimizer, those of its base included. */
export function optionNames({ optimizer, base }: Omit<OptimizerChoice, 'seed'>): string[] {
  const own = Object.keys(optimizerEntry(optimizer).schema.shape);
  const ofBase = optimizerEntry(optimizer).wraps ? Object.keys(optimizerEntry(base).schema.shape) : [];
  return [...new Set([...own, ...ofBase])].filter((key) => allOptions.has(key));
}

/** An optimizer that the options ask for, checked but not made yet. */
export interface OptimizerPlan {
  readonly create: (model: Model) => Optimizer;
  /** Every setting by name, for reports; a rule that a preset settles is missing. */
  readonly settings: Values;
}

/** Checks the options of an optimizer. Those that it does not have are an error at once, not ignored. */
export function planOptimizer(options: OptimizerChoice): OptimizerPlan {
  const entry = optimizerEntry(options.optimizer);
  const given = Object.fromEntries(
    Object.entries(options).filter(([key, value]) => allOptions.has(key) && value !== undefined),
  );
  const known = optionNames(options);
  const misplaced = Object.keys(given).find((key) => !known.includes(key));
  if (misplaced !== undefined)
    throw new UsageError(`option '${misplaced}' does not apply to optimizer '${options.optimizer}'`);
  const outer = settingsOf(entry, given, options);
  if (!entry.wraps) return { create: (model) => entry.create(model, outer), settings: shown(outer) };
  const baseEntry = optimizerEntry(options.base);
  const inner = settingsOf(baseEntry, given, options);
  const { rho = 'preset' in given ? undefined : entry.rho } = outer;
  return {
    create: (model) => entry.create(baseEntry.create(model, inner), outer),
    settings: shown({ base: options.base, ...inner, ...outer, rho }),
  };
}

/** Settings as reports show them: no seed, which is the run's, and nothing that is not set. */
const shown = ({ [SEED]: _, ...settings }: Values): Values =>
  Object.fromEntries(
    Object.entries(settings).filter(
      ([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0),
    ),
  );

function settingsOf({ title, schema, defaults }: OptimizerEntry, given: Values, { seed }: OptimizerChoice): Values {
  const own = Object.entries({ ...given, seed }).filter(([key, value]) => key in schema.shape && value !== undefined);
  return parseOptions(schema, { ...defaults, ...Object.fromEntries(own) }, title);
}
