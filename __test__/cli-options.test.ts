// The way from a zod schema to command-line flags and back, which every command shares.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { UsageError } from '../src/cli/failure.js';
import { addOptions, configSchema, resolveOptions } from '../src/cli/options.js';
import { temporaryFolder } from './support/folder.js';

const schema = z.strictObject({
  weightDecay: z.number().min(0).default(5e-4).describe('Weight decay'),
  epochs: z.int().min(1).default(10).describe('Epochs'),
  optimizer: z.enum(['sgd', 'asam']).default('sgd').describe('Optimizer'),
  milestones: z.array(z.int()).optional().describe('Milestones'),
  save: z.boolean().default(true).describe('Save'),
  flip: z.boolean().default(false).describe('Flip'),
  rho: z.number().optional().describe('Radius'),
  p: z
    .union([z.number().gt(1), z.enum(['inf'])])
    .optional()
    .describe('Norm'),
  shape: z
    .union([z.enum(['flat', 'round']), z.strictObject({ type: z.string(), at: z.array(z.number()) })])
    .optional()
    .describe('Shape'),
});

const folder = temporaryFolder('cli');

function resolve(flags: string[], config?: string) {
  const command = new Command('train').exitOverride().configureOutput({ writeErr: () => {} });
  addOptions(command, schema);
  command.parse(flags, { from: 'user' });
  if (config === undefined) return resolveOptions(command, schema);
  const file = join(folder, 'config.yaml');
  writeFileSync(file, config);
  return resolveOptions(command, schema, file);
}

describe('flags', () => {
  it('are the keys in kebab case, with the defaults of the schema', () => {
    expect(resolve([])).toEqual({ weightDecay: 5e-4, epochs: 10, optimizer: 'sgd', save: true, flip: false });
    expect(resolve(['--weight-decay', '1e-3', '--epochs', '3', '--optimizer', 'asam', '--rho', '2'])).toMatchObject({
      ...{ weightDecay: 1e-3, epochs: 3, optimizer: 'asam', rho: 2 },
    });
  });

  it('take lists and both forms of a boolean', () => {
    expect(resolve(['--milestones', '100, 150', '--no-save', '--flip'])).toMatchObject({
      milestones: [100, 150],
      save: false,
      flip: true,
    });
  });

  it('take a number or a word', () => {
    expect(resolve(['--p', '3'])).toMatchObject({ p: 3 });
    expect(resolve(['--p', 'inf'])).toMatchObject({ p: 'inf' });
  });

  it('take a name or a mapping', () => {
    expect(resolve(['--shape', 'flat'])).toMatchObject({ shape: 'flat' });
    expect(resolve(['--shape', '{type: round, at: [1, 2]}'])).toMatchObject({ shape: { type: 'round', at: [1, 2] } });
    expect(resolve([], 'shape: { type: round, at: [3] }')).toMatchObject({ shape: { type: 'round', at: [3] } });
  });

  it.each([
    [['--shape', 'rund'], /--shape.*'rund'.*did you mean 'round'/],
    [['--shape', '{type: round'], /--shape.*mapping/],
    [['--epochs', '1.5'], /--epochs.*whole number.*'1\.5'/],
    [['--weight-decay', 'much'], /--weight-decay.*number.*'much'/],
    [['--weight-decay', ''], /--weight-decay.*number/],
    [['--optimizer', 'asm'], /--optimizer.*'asm'.*did you mean 'asam'/],
  ])('refuse %j', (flags, message) => {
    expect(() => resolve(flags)).toThrow(UsageError);
    expect(() => resolve(flags)).toThrow(message);
  });

  it('are checked against the bounds of the schema', () => {
    expect(() => resolve(['--epochs', '0'])).toThrow(/epochs.*found 0.*at least 1/);
  });
});

describe('config files', () => {
  it('give way to flags and win over defaults', () => {
    const options = resolve(
      ['--epochs', '7', '--save'],
      'epochs: 3\nweightDecay: 0.1\nmilestones: [1, 2]\nsave: false\n',
    );
    expect(options).toMatchObject({ epochs: 7, weightDecay: 0.1, milestones: [1, 2], save: true, optimizer: 'sgd' });
  });

  it('may be JSON or empty', () => {
    expect(resolve([], '{"rho": 0.5}').rho).toBe(0.5);
    expect(resolve([], '').epochs).toBe(10);
  });

  it.each([
    ['wieghtDecay: 1', /config\.yaml.*'wieghtDecay'.*did you mean 'weightDecay'/],
    ['optimizer: asm', /config\.yaml.*optimizer.*did you mean 'asam'/],
    ['epochs: many', /epochs.*many/],
    ['- 1\n- 2', /mapping.*list/],
    ['epochs: [', /not valid YAML/],
  ])('refuse %j', (text, message) => {
    expect(() => resolve([], text)).toThrow(message);
  });

  it('that are missing are named', () => {
    const command = new Command('train');
    addOptions(command, schema);
    expect(() => resolveOptions(command, schema, join(folder, 'absent.yaml'))).toThrow(/absent\.yaml.*cannot be read/);
  });

  it('have a JSON Schema that knows every key and no other', () => {
    const json = configSchema('train', schema) as {
      properties: Record<string, { default?: unknown }>;
      additionalProperties: boolean;
    };
    expect(Object.keys(json.properties)).toEqual(Object.keys(schema.shape));
    expect(json.additionalProperties).toBe(false);
    expect(json.properties.epochs?.default).toBe(10);
  });
});
