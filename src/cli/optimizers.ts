// The optimizers that the command line knows by name, and the flags that follow from their schemas.
// A new optimizer is one line in `optimizers`: its class, its schema and, where it has one, the radius it starts from.
import { z } from 'zod';
import { Adam, AdamW, ASAM, type Model, type Optimizer, SAM, SGD } from '../index.js';
import {
  adamSchema,
  adamwSchema,
  asamPresets,
  asamSchema,
  parseOptions,
  samPresets,
  samSchema,
  sgdSchema,
  suggestion,
} from '../options/index.js';
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

const around = (Class: OptimizerClass<Optimizer>, schema: z.ZodObject, rho: number): OptimizerEntry => ({
  ...{ title: Class.name, schema, defaults: {}, rho, wraps: true },
  create: (base, options) => new Class(base as Optimizer, options),
});

/** Every optimizer by its name on the command line. */
export const optimizers: Readonly<Record<string, OptimizerEntry>> = {
  sgd: plain(SGD, sgdSchema, { momentum: 0.9, weightDecay: 5e-4 }),
  adam: plain(Adam, adamSchema),
  adamw: plain(AdamW, adamwSchema),
  sam: around(SAM, samSchema, samPresets.paper.rho),
  asam: around(ASAM, asamSchema, asamPresets.paper.rho),
};

/** Names of all optimizers. */
export const optimizerNames = Object.keys(optimizers);
const baseNames = optimizerNames.filter((name) => optimizers[name]?.wraps === false);

/** The optimizer of that name. @throws {@link UsageError} with the nearest right name. */
export function optimizerEntry(name: string): OptimizerEntry {
  const entry = optimizers[name];
  if (entry !== undefined) return entry;
  throw new UsageError(
    `unknown optimizer '${name}'${suggestion(name, optimizerNames)} (one of ${optimizerNames.join(', ')})`,
  );
}

const SEED = 'seed';

/** One option as the optimizers that have it describe it. */
interface Owner {
  readonly name: string;
  readonly field: z.core.$ZodType;
  readonly info: FieldInfo;
}

/** Options that a flag can set, by key; an option that is an object is for programs alone. */
function optionsOf(names: readonly string[]): Map<string, Owner[]> {
  const owners = new Map<string, Owner[]>();
  for (const name of names) {
    const { schema, defaults } = optimizerEntry(name);
    for (const [key, field] of Object.entries(schema.shape)) {
      const info = inspect(field);
      // A run has one seed; an optimizer that draws at random gets it from there.
      if (info === undefined || key === SEED) continue;
      const owner = { name, field, info: { ...info, default: defaults[key] ?? info.default } };
      owners.set(key, [...(owners.get(key) ?? []), owner]);
    }
  }
  return owners;
}

/** The flag of an option: never with a default, so that what was not given is left to the optimizer. */
function flagField(key: string, owners: readonly Owner[], of: number): z.ZodType {
  const choices = [...new Set(owners.flatMap(({ info }) => info.choices))];
  const inner = choices.length > 0 ? z.enum(choices as [string, ...string[]]) : withoutDefault(owners[0]?.field);
  const names = owners.length === of ? '' : ` [${namesOf(owners)}]`;
  return inner.optional().describe(`${key === 'rho' ? radiusText(owners) : optionText(owners)}${names}`);
}

function withoutDefault(field: z.core.$ZodType | undefined): z.ZodType {
  let inner = field as z.ZodType;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodOptional) inner = inner.unwrap() as z.ZodType;
  return inner;
}

const radiusText = (owners: readonly Owner[]) =>
  `Radius of the neighbourhood (default: ${owners.map(({ name }) => `${optimizers[name]?.rho} for ${name}`).join(', ')}, or the preset's)`;

/** Names by what `text` says of each owner. */
function namesBy(owners: readonly Owner[], text: (info: FieldInfo) => string): [text: string, owners: Owner[]][] {
  const found = new Map<string, Owner[]>();
  for (const owner of owners) found.set(text(owner.info), [...(found.get(text(owner.info)) ?? []), owner]);
  return [...found];
}

const namesOf = (owners: readonly Owner[]) => owners.map(({ name }) => name).join(', ');

/** Description and default; where optimizers differ, each is told with their names. */
function optionText(owners: readonly Owner[]): string {
  const texts = namesBy(owners, ({ description }) => description);
  const parts = texts.map(
    ([text, group]) => (texts.length > 1 ? `${namesOf(group)}: ` : '') + text + defaultText(group),
  );
  return parts.join('; ');
}

function defaultText(owners: readonly Owner[]): string {
  const defaults = namesBy(owners, (info) => [info.default ?? false].flat().join(','));
  if (defaults.length > 1)
    return ` (default: ${defaults.map(([value, group]) => `${value} for ${namesOf(group)}`).join('; ')})`;
  const [value] = defaults[0] ?? [];
  return value === undefined || value === 'false' ? '' : ` (default: ${value})`;
}

const allOptions = optionsOf(optimizerNames);
const baseOptions = optionsOf(baseNames);
const fieldsOf = (options: Map<string, Owner[]>, of: number) =>
  Object.fromEntries([...options].map(([key, owners]) => [key, flagField(key, owners, of)])) as object;

const base = z
  .enum(baseNames as [string, ...string[]])
  .default('sgd')
  .describe('Base optimizer of those that wrap one');

/** Whether an option belongs to some optimizer, and not to the run as a whole. */
export const isOptimizerOption = (key: string) => allOptions.has(key);

/** Flags of the base optimizers alone. */
export const baseFields = { base, ...fieldsOf(baseOptions, baseNames.length) };

/** Which optimizer, and its settings. */
export const optimizerFields = {
  optimizer: z
    .enum(optimizerNames as [string, ...string[]])
    .default('asam')
    .describe('Optimizer'),
  base,
  ...fieldsOf(allOptions, optimizerNames.length),
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
  if (!entry.wraps) {
    const settings = settingsOf(entry, given, options);
    return { create: (model) => entry.create(model, settings), settings };
  }
  const baseEntry = optimizerEntry(options.base);
  const [outer, inner] = [settingsOf(entry, given, options), settingsOf(baseEntry, given, options)];
  const { rho = 'preset' in given ? undefined : entry.rho } = outer;
  return {
    create: (model) => entry.create(baseEntry.create(model, inner), outer),
    settings: { base: options.base, ...inner, ...outer, ...(rho !== undefined && { rho }) },
  };
}

function settingsOf({ title, schema, defaults }: OptimizerEntry, given: Values, { seed }: OptimizerChoice): Values {
  const own = Object.entries({ ...given, seed }).filter(([key, value]) => key in schema.shape && value !== undefined);
  return parseOptions(schema, { ...defaults, ...Object.fromEntries(own) }, title);
}
