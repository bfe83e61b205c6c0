// Turns a zod object into command-line flags and the parsed flags back into checked options.
// One schema is thus the source of flags, help, defaults, config files and their JSON Schema.
import { type Command, Option } from 'commander';
import { parse } from 'yaml';
import { z } from 'zod';
import { parseOptions, suggestion } from '../options/parse.js';
import { type ConfigFile, readConfig } from './config.js';
import { UsageError } from './failure.js';

type Field = z.core.$ZodType;

/** What a flag needs to know about one field of a schema. */
export interface FieldInfo {
  /** `mixed` is a number where the text is one, and the text otherwise. */
  readonly type: 'string' | 'number' | 'boolean' | 'enum' | 'array' | 'mixed';
  readonly integer: boolean;
  readonly choices: readonly string[];
  readonly default: unknown;
  readonly description: string;
  /** Type of the elements of an array. */
  readonly element: FieldInfo | undefined;
}

const kebab = (key: string) => key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Flag of a key: `weightDecay` is `--weight-decay`. */
export const flagOf = (key: string) => `--${kebab(key)}`;

/** What the flag of a field looks like; nothing for a field that only programs and config files can set. */
export function inspect(field: Field): FieldInfo | undefined {
  let inner = field;
  let fallback: unknown;
  let description = '';
  for (;;) {
    description ||= z.globalRegistry.get(inner)?.description ?? '';
    const def = inner._zod.def as z.core.$ZodTypes['_zod']['def'];
    if (def.type === 'default' || def.type === 'prefault') {
      // The outermost default is the one that holds.
      fallback ??= def.defaultValue;
      inner = def.innerType;
    } else if (def.type === 'optional' || def.type === 'nullable') {
      inner = def.innerType;
    } else if (def.type === 'pipe') {
      inner = def.in;
    } else {
      const kind = kindOf(inner, def);
      return kind && { ...kind, default: fallback, description };
    }
  }
}

type Kind = Omit<FieldInfo, 'default' | 'description'>;

function kindOf(field: Field, def: z.core.$ZodTypes['_zod']['def']): Kind | undefined {
  const plain = { integer: false, choices: [], element: undefined };
  switch (def.type) {
    case 'number':
      return { ...plain, type: 'number', integer: field instanceof z.ZodNumber && field.isInt };
    case 'boolean':
      return { ...plain, type: 'boolean' };
    case 'enum':
      return { ...plain, type: 'enum', choices: Object.values(def.entries).map(String) };
    case 'array':
      return listKind(inspect(def.element));
    case 'tuple':
      return listKind(def.items[0] && inspect(def.items[0]));
    case 'string':
      return { ...plain, type: 'string' };
    case 'union':
      return unionKind(def.options.flatMap((option) => inspect(option) ?? []));
    default:
      return undefined;
  }
}

const listKind = (element: FieldInfo | undefined): Kind | undefined =>
  element && { type: 'array', integer: false, choices: [], element };

/** The one form that is no mapping; of several, a flag takes the list and, without one, a number or a word. */
function unionKind(forms: readonly FieldInfo[]): Kind | undefined {
  if (forms.length === 1) return forms[0];
  const first = forms.find(({ type }) => type === 'array') ?? forms[0];
  return first && (first.type === 'array' ? first : { ...first, type: 'mixed' });
}

const placeholderOf = (info: FieldInfo): string => {
  if (info.type === 'enum') return info.choices.length <= 5 ? info.choices.join('|') : 'name';
  if (info.type === 'array') return `${info.element?.type === 'number' ? 'number' : 'value'},...`;
  return info.type === 'number' ? (info.integer ? 'n' : 'number') : 'value';
};

/** Adds one flag per field of `schema` to `command`, and a `--no-` twin for each boolean. */
export function addOptions(command: Command, schema: z.ZodObject): void {
  for (const [key, field] of Object.entries(schema.shape)) {
    const info = inspect(field);
    if (info === undefined) continue;
    const shown =
      info.default === undefined ||
      info.default === false ||
      (Array.isArray(info.default) && info.default.length === 0);
    const help = info.description + (shown ? '' : ` (default: ${[info.default].flat().join(',')})`);
    if (info.type !== 'boolean') {
      const option = new Option(`${flagOf(key)} <${placeholderOf(info)}>`, help);
      command.addOption(info.type === 'array' ? option.argParser(addToList) : option);
      continue;
    }
    // Both forms exist so that a flag can overrule a config file; help shows the one that changes the default.
    command.addOption(new Option(flagOf(key), help).hideHelp(info.default === true));
    command.addOption(
      new Option(
        `--no-${kebab(key)}`,
        `do not ${info.description.charAt(0).toLowerCase()}${info.description.slice(1)}`,
      ).hideHelp(info.default !== true),
    );
  }
}

/** A list flag that is given several times adds up. */
const addToList = (text: string, before: string | undefined) => (before === undefined ? text : `${before},${text}`);

/** A number where the text is one, else the text. */
export const numberOrText = (text: string): number | string => {
  const number = Number(text);
  return text.trim() === '' || Number.isNaN(number) ? text : number;
};

/** A mapping on the command line is written as in a config file. */
function parseMapping(text: string, flag: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(
      `option '${flag}': expected a mapping such as '{type: cosine}', found '${text}' (${error instanceof Error ? error.message : String(error)})`,
    );
  }
}

function coerce(value: unknown, info: FieldInfo, flag: string): unknown {
  if (typeof value !== 'string') return value;
  if (value.trimStart().startsWith('{')) return parseMapping(value, flag);
  if (info.type === 'array') {
    const { element } = info;
    return element === undefined ? [] : value.split(',').map((part) => coerce(part.trim(), element, flag));
  }
  if (info.type === 'mixed') return numberOrText(value);
  if (info.type === 'number') {
    const number = Number(value);
    if (value.trim() === '' || Number.isNaN(number))
      throw new UsageError(`option '${flag}': expected a number, found '${value}'.`);
    if (info.integer && !Number.isInteger(number))
      throw new UsageError(`option '${flag}': expected a whole number, found '${value}'.`);
    return number;
  }
  return value;
}

function checkChoice(value: unknown, info: FieldInfo, where: string): void {
  if (info.type === 'array' && Array.isArray(value) && info.element !== undefined) {
    for (const item of value) checkChoice(item, info.element, where);
  }
  if (info.type !== 'enum' || value === undefined || value === null || typeof value === 'object') return;
  if (info.choices.includes(String(value))) return;
  throw new UsageError(
    `${where}: unknown value '${String(value)}'${suggestion(String(value), info.choices)} (one of ${info.choices.join(', ')})`,
  );
}

/** Values of the flags that stood on the command line, by key of the schema. */
function givenFlags(command: Command, schema: z.ZodObject): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  const values = command.opts<Record<string, unknown>>();
  for (const [key, field] of Object.entries(schema.shape)) {
    if (command.getOptionValueSource(key) !== 'cli') continue;
    const info = inspect(field);
    if (info === undefined) continue;
    given[key] = coerce(values[key], info, flagOf(key));
    checkChoice(given[key], info, `option '${flagOf(key)}'`);
  }
  return given;
}

function checkConfig(config: ConfigFile, schema: z.ZodObject): void {
  const keys = Object.keys(schema.shape);
  for (const [key, value] of Object.entries(config.values)) {
    const field = schema.shape[key];
    if (field === undefined) {
      throw new UsageError(`${config.path}: unknown key '${key}'${suggestion(key, keys)} (known: ${keys.join(', ')})`);
    }
    const info = inspect(field);
    if (info !== undefined) checkChoice(value, info, `${config.path}: ${key}`);
  }
}

/** Checked options of a parsed command: flags over the config file over the schema's defaults. */
export function resolveOptions<S extends z.ZodObject>(command: Command, schema: S, configPath?: string): z.output<S> {
  const config = configPath === undefined ? undefined : readConfig(configPath);
  if (config !== undefined) checkConfig(config, schema);
  return parseOptions(schema, { ...config?.values, ...givenFlags(command, schema) }, command.name());
}

/** JSON Schema of the config file of a command. */
export function configSchema(name: string, schema: z.ZodObject): object {
  return { title: `flatmin ${name} --config`, ...z.toJSONSchema(schema, { io: 'input' }), additionalProperties: false };
}
