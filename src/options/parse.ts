// Checks what a user passed against a zod schema and turns the first problems into one FlatminError.
// The message names the option, what was found, what was expected and, for a misspelt name, the nearest right one.

import { closest, distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { FlatminError } from '../errors.js';

/** Options as parsed: what was not given is missing, never undefined. */
export type Parsed<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Parses `input` with `schema`; `subject` is what the options belong to, as a user would say it ("SGD", "Trainer"). */
export function parseOptions<S extends z.ZodType>(
  schema: S,
  input: unknown,
  subject: string,
): z.output<S> & Parsed<z.output<S>> {
  const result = schema.safeParse(input);
  if (result.success) return withoutUndefined(result.data);
  const problems = result.error.issues.map((issue) => describeIssue(issue, input, subject, schema));
  throw new FlatminError('ERR_FLATMIN_OPTION', problems.join('\n'));
}

function withoutUndefined<T>(options: T): T & Parsed<T> {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) return options as T & Parsed<T>;
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T & Parsed<T>;
}

/** The member of `names` that a user most likely meant by `name`, or undefined when none is near. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  const wanted = name.toLowerCase();
  const best = closest(
    wanted,
    names.map((candidate) => candidate.toLowerCase()),
  );
  const limit = Math.max(2, Math.floor(name.length / 3));
  if (distance(wanted, best) > limit) return undefined;
  return names.find((candidate) => candidate.toLowerCase() === best);
}

/** "; did you mean 'x'?" or nothing. */
export function suggestion(name: string, names: readonly string[]): string {
  const near = nearest(name, names);
  return near === undefined ? '' : `; did you mean '${near}'?`;
}

/** A short picture of a value for an error message. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (value === null || typeof value !== 'object') return typeof value === 'function' ? 'a function' : String(value);
  if (Array.isArray(value))
    return value.length <= 6 ? `[${value.map(show).join(', ')}]` : `an array of ${value.length}`;
  const type = value.constructor?.name ?? 'Object';
  return type === 'Object' ? `an object {${Object.keys(value).slice(0, 6).join(', ')}}` : `a ${type}`;
}

type Issue = z.core.$ZodIssue;

function describeIssue(issue: Issue, input: unknown, subject: string, schema: z.ZodType): string {
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const nested = mostSpecific(issue, input);
    if (nested) return describeIssue(nested, input, subject, schema);
  }
  if (issue.code === 'unrecognized_keys') return describeUnknownKey(issue, input, subject, schema);
  const value = valueAt(input, issue.path);
  const what = issue.path.length === 0 ? subject : `${subject} option '${pathName(issue.path)}'`;
  const hint = typeof value === 'string' ? suggestion(value, choices(issue)) : '';
  return `${what}: found ${value === undefined ? 'nothing' : show(value)}, expected ${expectation(issue)}${hint}`;
}

function describeUnknownKey(
  issue: Issue & { code: 'unrecognized_keys' },
  input: unknown,
  subject: string,
  schema: z.ZodType,
): string {
  const known = keysAt(schema, issue.path, input);
  const place = issue.path.length === 0 ? '' : ` in '${pathName(issue.path)}'`;
  return issue.keys
    .map((key) => {
      const list = known.length === 0 ? '' : ` (options: ${known.join(', ')})`;
      return `${subject} has no option '${key}'${place}${suggestion(key, known)}${list}`;
    })
    .join('\n');
}

/** Of the alternatives of a union, the complaint of the one that the input came nearest to; none when all fail at once. */
function mostSpecific(issue: Issue & { code: 'invalid_union' }, input: unknown): Issue | undefined {
  const value = valueAt(input, issue.path);
  const nested = issue.errors
    .filter((alternative) => alternative.length > 0)
    .map((alternative) => ({
      first: alternative[0] as Issue,
      depth: Math.max(...alternative.map((one) => one.path.length)),
      count: alternative.length,
    }))
    .filter(({ first, depth }) => depth > 0 || first.code === 'unrecognized_keys' || first.code === 'custom');
  if (nested.length === 0 || value === null || typeof value !== 'object') return undefined;
  nested.sort((a, b) => a.count - b.count || b.depth - a.depth);
  const best = nested[0]?.first;
  return best && ({ ...best, path: [...issue.path, ...best.path] } as Issue);
}

function expectation(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return article(issue.expected);
    case 'too_small':
      return bound(issue.origin, issue.inclusive ? 'at least' : 'more than', issue.minimum);
    case 'too_big':
      return bound(issue.origin, issue.inclusive ? 'at most' : 'less than', issue.maximum);
    case 'invalid_value':
      return issue.values.length === 1 ? show(issue.values[0]) : `one of ${issue.values.map(show).join(', ')}`;
    case 'invalid_union':
      return unionExpectation(issue);
    default:
      return issue.message;
  }
}

/** The names that would have been right, where an issue knows them. */
function choices(issue: Issue): string[] {
  if (issue.code === 'invalid_value') return issue.values.map(String);
  if (issue.code !== 'invalid_union') return [];
  const own = (issue as { options?: unknown[] }).options?.map(String) ?? [];
  return [...own, ...issue.errors.flat().flatMap(choices)];
}

function unionExpectation(issue: Issue & { code: 'invalid_union' }): string {
  const discriminated = issue as { options?: unknown[] };
  if (discriminated.options) return `one of ${discriminated.options.map(show).join(', ')}`;
  const all = issue.errors.flatMap((alternative) => (alternative[0] ? [expectation(alternative[0])] : []));
  return [...new Set(all)].join(', or ');
}

function bound(origin: string, relation: string, limit: number | bigint): string {
  if (origin === 'array') return `${relation} ${limit} element${limit === 1 ? '' : 's'}`;
  if (origin === 'string') return `${relation} ${limit} character${limit === 1 ? '' : 's'}`;
  return `a number of ${relation} ${limit}`;
}

function article(type: string): string {
  if (type === 'int') return 'a whole number';
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
}

function pathName(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('');
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** The option names that a schema knows at a path; looks through wrappers, arrays and the union member that fits the input. */
function keysAt(schema: z.ZodType, path: readonly PropertyKey[], input: unknown): string[] {
  const json = schemaNode(schema);
  const root = json as JsonNode;
  let nodes: JsonNode[] = [root];
  let value: unknown = input;
  for (const key of path) {
    nodes = expand(root, nodes, value).flatMap((node) => {
      const next = typeof key === 'number' ? itemNode(node, key) : node.properties?.[String(key)];
      return next ? [next] : [];
    });
    value = valueAt(value, [key]);
  }
  return [...new Set(expand(root, nodes, value).flatMap((node) => Object.keys(node.properties ?? {})))];
}

interface JsonNode {
  $ref?: string;
  const?: unknown;
  properties?: Record<string, JsonNode>;
  anyOf?: JsonNode[];
  oneOf?: JsonNode[];
  allOf?: JsonNode[];
  prefixItems?: JsonNode[];
  items?: JsonNode;
  $defs?: Record<string, JsonNode>;
}

function schemaNode(schema: z.ZodType): unknown {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
}

function itemNode(node: JsonNode, index: number): JsonNode | undefined {
  return node.prefixItems?.[index] ?? node.items;
}

/** Follows references and unions; a member whose `type` constant differs from the input's `type` is left out. */
function expand(root: JsonNode, nodes: JsonNode[], value: unknown): JsonNode[] {
  const type = valueAt(value, ['type']);
  return nodes.flatMap((node): JsonNode[] => {
    if (node.$ref !== undefined) {
      const target = node.$ref === '#' ? root : root.$defs?.[node.$ref.replace('#/$defs/', '')];
      return target ? expand(root, [target], value) : [];
    }
    const members = node.anyOf ?? node.oneOf ?? node.allOf;
    if (members) return expand(root, members, value);
    const constant = node.properties?.type?.const;
    return constant !== undefined && type !== undefined && constant !== type ? [] : [node];
  });
}
