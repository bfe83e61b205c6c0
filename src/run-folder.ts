// Reads what a run leaves in its folder: config.json, events.jsonl and steps.jsonl. A run in progress may be read as well:
// every line but a last one that is still being written is whole.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FlatminError } from './errors.js';
import type { EpochEvent, RecordedEvent, StepEvent } from './events.js';

/** Names of the files in a run folder; `options.json` is there for runs of the command line. */
export const RUN_FILES = {
  config: 'config.json',
  options: 'options.json',
  events: 'events.jsonl',
  steps: 'steps.jsonl',
  /** Made by whoever wants the run to end. */
  stop: 'stop',
} as const;

/** True for a folder in which a run was begun. */
export const isRunFolder = (path: string) => existsSync(join(path, RUN_FILES.events));

/** @throws `ERR_FLATMIN_PATH` for a folder without a run. */
export function requireRunFolder(path: string): void {
  if (isRunFolder(path)) return;
  throw new FlatminError(
    'ERR_FLATMIN_PATH',
    `${path}: found no run there, expected a folder with ${RUN_FILES.events}, as flatmin train --run-dir or a Trainer with runDir leaves it`,
  );
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new FlatminError('ERR_FLATMIN_PATH', `cannot read ${path}: ${(error as Error).message}`, error);
  }
}

function parse(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FlatminError(
      'ERR_FLATMIN_FORMAT',
      `${place}: found text that is not JSON, expected what a run writes there: ${(error as Error).message}`,
      error,
    );
  }
}

/** Reads a file of one JSON document. @throws `ERR_FLATMIN_PATH`, `ERR_FLATMIN_FORMAT`. */
export const readJson = (path: string): unknown => parse(read(path), path);

type AnyEvent = StepEvent | RecordedEvent;

/** The events in whole lines of text; what follows the last line break is still being written. */
export function parseEvents<T extends AnyEvent>(text: string, path: string): T[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line, index) => withNumbers(parse(line, `${path}, line ${index + 1}`) as T));
}

/** Every event of a run but its steps; none before it has begun. */
export function readEvents(runDir: string): RecordedEvent[] {
  const path = join(runDir, RUN_FILES.events);
  return existsSync(path) ? parseEvents(read(path), path) : [];
}

/** The epochs among events. */
export const epochsOf = (events: readonly AnyEvent[]): EpochEvent[] =>
  events.filter((event): event is EpochEvent => event.type === 'epoch');

/** JSON has no NaN: a loss or norm that was not finite lies there, and comes from the native side, as null. */
export function withNumbers<T extends AnyEvent>(event: T): T {
  fillIn(event);
  return event;
}

function fillIn(event: AnyEvent): void {
  if (event.type === 'step') {
    event.loss ??= Number.NaN;
    event.gradientNorm ??= Number.NaN;
  }
  const scores = event.type === 'epoch' ? event : 'result' in event ? event.result : undefined;
  const { averaged } = scores ?? {};
  const sets = [scores?.train, scores?.validation, scores?.test, averaged?.validation, averaged?.test];
  for (const set of sets) if (set) set.loss ??= Number.NaN;
}
