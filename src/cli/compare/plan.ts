// What a comparison trains: each optimizer with its options, at every value of the sweeps, with every seed.
// Everything is checked here, before images are opened and anything is trained.
import { join } from 'node:path';
import { parseOptions, suggestion } from '../../options/parse.js';
import { UsageError } from '../failure.js';
import { type RunOptions, runSchema } from '../fields.js';
import { isOptimizerOption, optimizerEntry, optionNames, planOptimizer, type Values } from '../optimizers.js';
import {
  parseSpecs,
  parseSweeps,
  type Spec,
  type SpecForm,
  type Sweep,
  type SweepForm,
  type SweptValue,
} from './specs.js';

/** One line of the comparison's table: an optimizer with its options. */
export interface Setting {
  /** As the table shows it: `ASAM rho=1 eta=0.01`. */
  readonly name: string;
  /** As folders are called: `asam-rho=1-eta=0.01`. */
  readonly folder: string;
  readonly optimizer: string;
  /** Name without the swept values; settings that differ in these alone share it. */
  readonly family: string;
  /** Options of its own, the swept ones included. */
  readonly given: Values;
  readonly swept: Readonly<Record<string, SweptValue>>;
}

/** One training run of a comparison. */
export interface PlannedRun {
  readonly setting: Setting;
  readonly options: RunOptions;
  /** Where it is recorded; without one nothing is kept. */
  readonly runDir: string | undefined;
}

/** What is compared. */
export interface ComparisonPlan {
  readonly settings: readonly Setting[];
  readonly runs: readonly PlannedRun[];
  /** Names of the swept options, in order. */
  readonly sweptOptions: readonly string[];
}

/** How a comparison is asked for. */
export interface ComparisonOptions {
  readonly optimizers: readonly SpecForm[];
  readonly sweep: SweepForm;
  readonly seeds: readonly number[];
  /** Epochs of optimizers with one pass a step, as a multiple of the others'. */
  readonly sgdEpochsFactor: number;
  /** Options of every run. Those of base optimizers go to the optimizers that have them. */
  readonly shared: Values & { readonly epochs: number; readonly base: string };
  readonly out: string | undefined;
}

/** Plans a comparison. @throws {@link UsageError} or `ERR_FLATMIN_OPTION` for anything that cannot be run. */
export function planComparison(options: ComparisonOptions): ComparisonPlan {
  const { shared, out } = options;
  const specs = parseSpecs(options.optimizers);
  for (const spec of specs) checkSpec(spec, shared.base);
  const sweeps = parseSweeps(options.sweep);
  for (const sweep of sweeps) checkSweep(sweep, specs, shared.base);
  const settings = specs.flatMap((spec) => settingsOf(spec, sweeps, shared.base));
  const twice = settings.find(({ folder }, index) => settings.findIndex((other) => other.folder === folder) !== index);
  if (twice !== undefined)
    throw new UsageError(`--optimizers: '${twice.name}' is there twice; give one of them other options`);
  checkShared(shared, settings);
  const runs = options.seeds.flatMap((seed) =>
    settings.map((setting) => ({
      setting,
      options: runOptions(setting, options, seed),
      runDir: out && join(out, setting.folder, `seed-${seed}`),
    })),
  );
  for (const { options: checked } of runs) planOptimizer(checked);
  return { settings, runs, sweptOptions: [...new Set(sweeps.map(({ option }) => option))] };
}

/** Options of a setting that are not the optimizer's: a budget of its own. */
const RUN_OPTIONS = ['epochs'];

function optionsFor({ optimizer, given }: Spec, base: string): string[] {
  const wraps = optimizerEntry(optimizer).wraps;
  const ownBase = typeof given.base === 'string' && wraps ? given.base : base;
  return [...optionNames({ optimizer, base: ownBase }), ...(wraps ? ['base'] : []), ...RUN_OPTIONS];
}

function checkSpec(spec: Spec, base: string): void {
  const known = optionsFor(spec, base);
  const unknown = Object.keys(spec.given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new UsageError(
    `--optimizers: ${spec.optimizer} has no option '${unknown}'${suggestion(unknown, known)} (options: ${known.join(', ')})`,
  );
}

function checkSweep({ optimizer, option }: Sweep, specs: readonly Spec[], base: string): void {
  if (optimizer !== undefined) optimizerEntry(optimizer);
  const swept = specs.filter((spec) => optimizer === undefined || spec.optimizer === optimizer);
  if (swept.length === 0)
    throw new UsageError(`--sweep ${optimizer}:${option}: '${optimizer}' is not among --optimizers`);
  const known = [...new Set(swept.flatMap((spec) => optionsFor(spec, base)))];
  if (known.includes(option)) return;
  const names = [...new Set(swept.map((spec) => spec.optimizer))];
  throw new UsageError(
    `--sweep: ${names.join(', ')} ${names.length === 1 ? 'has' : 'have'} no option '${option}'${suggestion(option, known)} (options: ${known.join(', ')})`,
  );
}

/** A setting for every point of the grid that its sweeps span; one where none applies. */
function settingsOf(spec: Spec, sweeps: readonly Sweep[], base: string): Setting[] {
  const { optimizer, given } = spec;
  const known = optionsFor(spec, base);
  const axes = sweeps.filter(
    (sweep) => (sweep.optimizer === undefined || sweep.optimizer === optimizer) && known.includes(sweep.option),
  );
  const fixed = Object.fromEntries(Object.entries(given).filter(([key]) => !axes.some(({ option }) => option === key)));
  const family = nameOf(optimizer, fixed);
  let grid: Record<string, SweptValue>[] = [{}];
  for (const { option, values } of axes)
    grid = grid.flatMap((point) => values.map((value) => ({ ...point, [option]: value })));
  return grid.map((swept) => {
    const all = { ...fixed, ...swept };
    const folder = [optimizer, ...assignments(all)].join('-');
    // Only letters that every file system takes.
    return {
      name: nameOf(optimizer, all),
      folder: folder.replaceAll(/[^\w.=+-]/g, '_'),
      optimizer,
      family,
      given: all,
      swept,
    };
  });
}

/** A name with options behind it: `ASAM rho=1`. */
export const withOptions = (name: string, options: Values) => [name, ...assignments(options)].join(' ');

const assignments = (options: Values) =>
  Object.entries(options).map(([key, value]) => `${key}=${typeof value === 'object' ? JSON.stringify(value) : value}`);

const nameOf = (optimizer: string, given: Values) => withOptions(optimizerEntry(optimizer).title, given);

/** Shared options of base optimizers, such as the momentum, must be of use to at least one setting. */
function checkShared(shared: ComparisonOptions['shared'], settings: readonly Setting[]): void {
  const used = new Set(settings.flatMap((setting) => optionsFor(setting, shared.base)));
  const unused = Object.keys(shared).find((key) => isOptimizerOption(key) && !used.has(key));
  if (unused === undefined) return;
  throw new UsageError(
    `option '${unused}' applies to none of the optimizers ${settings.map(({ name }) => name).join(', ')}`,
  );
}

/** The options of one run; shared ones that the optimizer does not have are left out. */
function runOptions(
  { optimizer, given }: Setting,
  { shared, sgdEpochsFactor }: ComparisonOptions,
  seed: number,
): RunOptions {
  const known = optionsFor({ optimizer, given }, shared.base);
  const own = Object.entries(shared).filter(([key]) => !isOptimizerOption(key) || known.includes(key));
  const { title, wraps } = optimizerEntry(optimizer);
  const epochs = wraps ? shared.epochs : Math.round(shared.epochs * sgdEpochsFactor);
  return parseOptions(runSchema, { ...Object.fromEntries(own), epochs, ...given, optimizer, seed }, title);
}
