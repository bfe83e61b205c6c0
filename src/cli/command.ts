// What a command is: a name, words for --help, one zod schema for its options, and a function that does the work.
// The frame around it (parsing, --json, --config, --print-schema, Ctrl-C) is the same for all and lies here.
import { Argument, Command } from 'commander';
import type { z } from 'zod';
import { load } from '../index.js';
import type { DeviceName } from '../options/fields.js';
import { addOptions, configSchema, resolveOptions } from './options.js';
import { Output } from './output.js';

/** What a running command gets beside its options. */
export interface Context {
  readonly output: Output;
  /** Words of the command line that are not options, such as the image files of `predict`. */
  readonly operands: readonly string[];
  /** Tells the process's exit code, for commands that end without an error but not well. */
  exit(code: number): void;
}

/** One command of the CLI. */
export interface CommandDefinition<S extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  readonly summary: string;
  /** Examples and explanations printed under the options. */
  readonly details?: string;
  /** Operands as commander writes them: `<images...>`. */
  readonly operands?: readonly { readonly name: string; readonly description: string }[];
  readonly schema: S;
  /** A config file to start from when the user gives none, found from the raw flags and the operands. */
  readonly configOf?: (flags: Readonly<Record<string, unknown>>, operands: readonly string[]) => string | undefined;
  /** False: its `device` is not one to compute on, and nothing is loaded for it. Default true. */
  readonly computes?: boolean;
  readonly run: (options: z.output<S>, context: Context) => Promise<void>;
}

/** Keeps the type of the schema while forgetting it in lists of commands. */
export function defineCommand<S extends z.ZodObject>(definition: CommandDefinition<S>): CommandDefinition {
  return definition as unknown as CommandDefinition;
}

interface CommonFlags {
  readonly json?: boolean;
  readonly config?: string;
  readonly printSchema?: boolean;
}

/** Builds the commander command that runs `definition`. */
export function buildCommand(definition: CommandDefinition): Command {
  const command = new Command(definition.name).summary(definition.summary).description(definition.summary);
  for (const operand of definition.operands ?? []) command.addArgument(new Argument(operand.name, operand.description));
  addOptions(command, definition.schema);
  command
    .option('--json', 'print JSON on stdout and nothing else there')
    .option('--config <file>', 'read options from a YAML file; flags win over it')
    .option('--print-schema', 'print the JSON Schema of the config file and end')
    .option('--verbose', 'print stacks of errors');
  if (definition.details !== undefined) command.addHelpText('after', `\n${definition.details}`);
  command.action(async () => {
    const common = command.opts<CommonFlags>();
    if (common.printSchema === true) {
      process.stdout.write(`${JSON.stringify(configSchema(definition.name, definition.schema), undefined, 2)}\n`);
      return;
    }
    const output = new Output(common.json === true);
    try {
      const options = resolveOptions(
        command,
        definition.schema,
        common.config ?? definition.configOf?.(command.opts(), command.args),
      );
      // Before anything else touches libtorch, which cannot be given its CUDA part later.
      const computes = definition.computes !== false && options.device !== undefined;
      if (computes) await load({ device: options.device as DeviceName });
      await definition.run(options, {
        output,
        operands: command.args,
        exit: (code) => {
          process.exitCode = code;
        },
      });
    } finally {
      output.done();
    }
  });
  return command;
}
