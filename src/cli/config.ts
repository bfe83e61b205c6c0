// Reads the file given to `--config`: YAML (and so JSON), one mapping whose keys are the command's options in camel case.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { UsageError } from './failure.js';

/** A config file as read; its keys are not checked yet. */
export interface ConfigFile {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Reads and parses the file; a missing or malformed one is a {@link UsageError}. */
export function readConfig(path: string): ConfigFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(
      `--config ${path}: cannot be read (${error instanceof Error ? error.message : String(error)}).`,
    );
  }
  let values: unknown;
  try {
    values = parse(text) ?? {};
  } catch (error) {
    throw new UsageError(`--config ${path}: not valid YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw new UsageError(
      `--config ${path}: expected a mapping such as 'epochs: 10', found ${Array.isArray(values) ? 'a list' : typeof values}.`,
    );
  }
  return { path, values: values as Record<string, unknown> };
}
