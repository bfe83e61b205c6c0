// The CLI's entry: builds the program from the list of commands and turns every error into a message and an exit code.
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { buildCommand } from './command.js';
import { commands } from './commands/index.js';
import { describeFailure, EXIT, exitCodeOf } from './failure.js';

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

/** The whole program, without running it. */
export function buildProgram(): Command {
  const program = new Command('flatmin')
    .description('Trains networks to flat minima (SAM, ASAM) on libtorch, from Node.js')
    .version(version(), '-V, --version', 'print the version')
    .helpCommand(true)
    .showHelpAfterError('(flatmin --help lists the commands)');
  for (const definition of commands) {
    const [group, name] = definition.name.split(' ') as [string, string | undefined];
    const parent = name === undefined ? program : groupOf(program, group);
    parent.addCommand(buildCommand(name === undefined ? definition : { ...definition, name }));
  }
  for (const command of [program, ...program.commands, ...program.commands.flatMap((child) => child.commands)])
    command.exitOverride();
  return program;
}

const GROUPS: Readonly<Record<string, string>> = {
  bench: 'measure speed, beside PyTorch when --peer is given',
  data: 'bring data sets, look at them, pack them into shards',
};

function groupOf(program: Command, name: string): Command {
  const existing = program.commands.find((command) => command.name() === name);
  if (existing !== undefined) return existing;
  const group = new Command(name).description(GROUPS[name] ?? name);
  program.addCommand(group);
  return group;
}

/** Runs the command line; sets `process.exitCode` and never throws. */
export async function main(argv: readonly string[] = process.argv): Promise<void> {
  // A reader that leaves early (`flatmin train --json | head`) is not an error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.ok);
    throw error;
  });
  try {
    await buildProgram().parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      // commander has printed it already, with the nearest right option.
      process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
      return;
    }
    process.stderr.write(`${describeFailure(error, argv.includes('--verbose'))}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
