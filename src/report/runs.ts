// From run folders to a report: which runs belong together, what they share and in what they differ. Everything is read
// from what the Trainer wrote, so runs of the command line and of programs are the same here.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { FlatminError } from '../errors.js';
import type { RecordedEvent, StartEvent } from '../events.js';
import { epochsOf, isRunFolder, RUN_FILES, readEvents, readJson, requireRunFolder } from '../run-folder.js';
import { processIsGone } from '../run-process.js';
import { optimizerTitle } from './optimizer-title.js';
import type { ReportMeta, ReportRun } from './types.js';

/** What a report needs of config.json; the rest is shown as it is. */
const configSchema = z.looseObject({
  train: z.looseObject({ seed: z.number(), epochs: z.number() }),
  optimizer: z.looseObject({ base: z.looseObject({ type: z.string() }) }),
  model: z.looseObject({ name: z.string().nullish() }),
  data: z.record(z.string(), z.looseObject({ name: z.string(), count: z.number() }).nullable()),
  dtype: z.string().optional(),
  environment: z.record(z.string(), z.unknown()).nullish(),
});

type Config = z.output<typeof configSchema>;
type Settings = ReadonlyMap<string, string>;

/** Options of the command line that the Trainer does not see: they made the data. */
const optionsSchema = z.object({ labelNoise: z.number().optional() }).catch({});

/** A run folder as read. */
export interface StoredRun {
  readonly path: string;
  readonly config: Config;
  readonly options: z.output<typeof optionsSchema>;
  readonly events: readonly RecordedEvent[];
  /** It has not ended, but the process that trained it has. */
  readonly cutOff: boolean;
}

/** Reads one run folder. @throws `ERR_FLATMIN_PATH` without a run in it, `ERR_FLATMIN_FORMAT` for files that are none. */
export function readStoredRun(path: string): StoredRun {
  requireRunFolder(path);
  const file = join(path, RUN_FILES.config);
  const config = configSchema.safeParse(readJson(file));
  if (!config.success)
    throw new FlatminError('ERR_FLATMIN_FORMAT', `${file}: not the config of a run: ${z.prettifyError(config.error)}`);
  const optionsFile = join(path, RUN_FILES.options);
  const options = optionsSchema.parse(existsSync(optionsFile) ? readJson(optionsFile) : {});
  // Looked at before the events are read: of a process that is gone they are all there.
  const gone = processIsGone(config.data);
  const events = readEvents(path);
  return { path, config: config.data, options, events, cutOff: gone && events.at(-1)?.type !== 'end' };
}

/** The run folders that a path means: itself, or all below it, as `compare` leaves them. */
export function findRunFolders(path: string): string[] {
  if (isRunFolder(path)) return [path];
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const names = isFolder ? readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory()) : [];
  return names
    .map(({ name }) => name)
    .sort()
    .flatMap((name) => findRunFolders(join(path, name)));
}

/** Settings of how a run is recorded and how fast, which do not change what it computes. */
const IRRELEVANT =
  /^(train\.(seed|runDir|threads|loaderThreads|stepEventMs|awaitEpochEnd|checkpoint\..*|stepMetrics)|optimizer\.sharpness\.seed)$/;

/** Leaves of an object by their path; what is not set is left out. */
function leaves(value: unknown, path: string): [string, string][] {
  if (value === null || value === undefined || (Array.isArray(value) && value.length === 0)) return [];
  if (typeof value !== 'object' || Array.isArray(value))
    return [[path, Array.isArray(value) ? JSON.stringify(value) : String(value)]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, path === '' ? key : `${path}.${key}`));
}

/** Everything that decides what a run computes. */
function settingsOf({ config, options, events }: StoredRun): Settings {
  const { train, optimizer, model, data, dtype } = config;
  const sets = Object.entries(data).map(([split, set]) => [`data.${split}`, set && `${set.name}, ${set.count} images`]);
  const start = events.find((event): event is StartEvent => event.type === 'start');
  const described = {
    ...{ model: model.name ?? 'own model', parameters: start?.parameters },
    ...{ ...Object.fromEntries(sets), ...options, dtype, train, optimizer },
  };
  return new Map(leaves(described, '').filter(([key]) => !IRRELEVANT.test(key)));
}

/** The settings that are not the same in all of `all`. */
function differing(all: readonly Settings[]): string[] {
  const keys = [...new Set(all.flatMap((settings) => [...settings.keys()]))];
  return keys.filter((key) => new Set(all.map((settings) => settings.get(key))).size > 1);
}

const lastName = (key: string) => key.slice(key.lastIndexOf('.') + 1);

const described = (settings: Settings, keys: readonly string[]) =>
  keys.map((key) => `${lastName(key)}=${settings.get(key) ?? 'none'}`).join(' ');

interface Member {
  readonly run: StoredRun;
  readonly title: string;
  readonly settings: Settings;
}

/** Name of a run's group: its optimizer, and the options in which runs with that optimizer differ. */
function groupName({ title, settings }: Member, members: readonly Member[]): string {
  const rivals = members.filter((member) => member.title === title).map((member) => member.settings);
  return [title, described(settings, differing(rivals))].filter((part) => part !== '').join(' ');
}

function stateOf({ events, cutOff }: StoredRun): string {
  const last = events.at(-1);
  if (last?.type === 'end') return last.reason;
  return cutOff ? 'cut off' : 'not ended';
}

/** What a run failed of. */
const causeOf = (last: RecordedEvent | undefined) =>
  last?.type === 'end' && last.reason === 'failed' ? ` (${last.error.code}: ${last.error.message})` : '';

/** What all maps agree on, and of the others the values. */
function shared(all: readonly Settings[]): Record<string, string> {
  const keys = [...new Set(all.flatMap((settings) => [...settings.keys()]))];
  return Object.fromEntries(
    keys.map((key) => [key, [...new Set(all.map((settings) => settings.get(key) ?? 'not noted'))].join(' | ')]),
  );
}

/** `SGD, SAM: demo on digits`. */
export function titleOf(stored: readonly StoredRun[]): string {
  const distinct = (names: readonly string[]) => [...new Set(names)].join(', ');
  const configs = stored.map(({ config }) => config);
  const models = distinct(configs.map(({ model }) => model.name ?? 'own model'));
  const sets = distinct(configs.map(({ data }) => data.train?.name ?? 'own data'));
  return `${distinct(configs.map(({ optimizer }) => optimizerTitle(optimizer)))}: ${models} on ${sets}`;
}

/** Runs and words of a report about stored runs. */
export function reportOn(stored: readonly StoredRun[], title?: string): { runs: ReportRun[]; meta: ReportMeta } {
  const members = stored.map((run) => ({
    run,
    title: optimizerTitle(run.config.optimizer),
    settings: settingsOf(run),
  }));
  const runs = members.map((member): ReportRun => {
    const { path, config, events } = member.run;
    return {
      ...{ group: groupName(member, members), seed: config.train.seed, epochs: epochsOf(events) },
      origin: { path, state: stateOf(member.run), date: stringOf(config.environment?.date) },
    };
  });
  const reference = runs.find((_, index) => members[index]?.title === 'SGD')?.group;
  const varying = new Set(differing(members.map(({ settings }) => settings)));
  const [first] = members;
  const common = [...(first?.settings ?? [])].filter(([key]) => !varying.has(key));
  const environments = stored.map(({ config }) => new Map(leaves(shownOf(config.environment ?? {}), '')));
  return {
    runs,
    meta: {
      title: title ?? titleOf(stored),
      options: Object.fromEntries(common),
      environment: shared(environments),
      ...(reference !== undefined && { reference }),
      notes: runs.flatMap(({ origin, group, seed }, index) =>
        origin?.state === 'finished'
          ? []
          : [`${group}, seed ${seed}: ${origin?.state}${causeOf(stored[index]?.events.at(-1))}.`],
      ),
    },
  };
}

const stringOf = (value: unknown) => (typeof value === 'string' ? value : undefined);
const shownOf = ({ date: _, process: __, ...environment }: Readonly<Record<string, unknown>>) => environment;
