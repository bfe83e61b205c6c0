// `flatmin bench step | train | loop | data`: speed, beside PyTorch's published code when `--peer` is given, as a table or JSON.
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { dirname } from 'node:path';
import { z } from 'zod';
import { benchData, DECODERS } from '../../bench/data.js';
import { benchLoop } from '../../bench/loop.js';
import { METHODS, type Method } from '../../bench/methods.js';
import { benchStep } from '../../bench/step.js';
import { benchMethods, benchTrain, VARIANTS } from '../../bench/train.js';
import { settleDevice } from '../../device.js';
import { describeEnvironment } from '../../environment.js';
import { load } from '../../load.js';
import { dtype, path, positiveInteger, seed } from '../../options/fields.js';
import { type Context, defineCommand } from '../command.js';
import { UsageError } from '../failure.js';
import { computeDevice } from '../fields.js';

const commonFields = {
  rounds: positiveInteger.default(5).describe('Turns of each program'),
  steps: positiveInteger.default(5).describe('Timed steps in each turn'),
  warmup: positiveInteger.default(3).describe('Steps before the first timed one'),
  threads: positiveInteger.optional().describe('Threads of every program (default: one per core)'),
  seed,
  out: path.optional().describe('File that gets the result as JSON, such as benchmarks/results/train.json'),
};
const peer = z
  .boolean()
  .default(false)
  .describe('Alternate with the PyTorch peer; its environment is made when missing (about 6 GB)');
const optimizer = z.enum(METHODS).default('asam').describe('Optimizer');
const optimizerOrAll = z
  .enum([...METHODS, 'all'])
  .default('asam')
  .describe('Optimizer, or all of them in turns');
const model = z.string().default('resnet20').describe('Name of the model');
const batch = positiveInteger.default(128).describe('Images per step');

/** Options of the peer say nothing without one. */
function checkPeer(peer: boolean, option: string, value: unknown): void {
  if (!peer && value !== undefined)
    throw new UsageError(`--${option} belongs to the PyTorch peer: add --peer, or leave --${option} out`);
}

type Common = z.output<z.ZodObject<typeof commonFields>>;
type Measure = (settings: {
  threads: number;
  onBlock: (round: number, name: string) => void;
}) => Promise<Record<string, unknown>>;

/** Measures, adds hardware, versions and load, and writes the result where it was asked for. */
async function report(kind: string, options: Common, { output }: Context, measure: Measure): Promise<void> {
  const load = loadavg()[0];
  const threads = options.threads ?? availableParallelism();
  const onBlock = (round: number, name: string) => {
    output.progress(round === 0 ? `warming up ${name}` : `round ${round}/${options.rounds}: ${name}`);
  };
  const result = {
    ...(await measure({ threads, onBlock })),
    bench: kind,
    date: new Date().toISOString(),
    loadBefore: load,
    environment: describeEnvironment(),
  };
  if (options.out !== undefined) {
    await mkdir(dirname(options.out), { recursive: true });
    await writeFile(options.out, `${JSON.stringify(result, undefined, 2)}\n`);
  }
  output.document(result);
  output.text(lines(result).join('\n'));
}

/** The figures of a result as indented lines. */
function lines(value: object, indent = ''): string[] {
  return Object.entries(value).flatMap(([key, inner]) => {
    if (typeof inner !== 'object' || inner === null) return [`${indent}${key}: ${String(inner)}`];
    return [`${indent}${key}:`, ...lines(inner, `${indent}  `)];
  });
}

export const benchStepCommand = defineCommand({
  name: 'bench step',
  summary: "time ascent and descent step on ResNet-50's parameters",
  schema: z.strictObject({
    optimizer: optimizerOrAll,
    peer,
    ...commonFields,
  }),
  run: (options, context) => report('step', options, context, (settings) => benchStep({ ...options, ...settings })),
});

export const benchTrainCommand = defineCommand({
  name: 'bench train',
  summary: 'time whole training steps',
  details: `One optimizer alone, or beside the PyTorch peer with --peer; several take turns, each told as a multiple of the first.

Examples:
  flatmin bench train --peer
  flatmin bench train --device cuda --dtype bfloat16 --model resnet50 --batch 256 --peer
  flatmin bench train --optimizer sgd,sam,asam`,
  schema: z.strictObject({
    model,
    optimizer: z
      .array(z.enum([...METHODS, 'all']))
      .min(1)
      .default(['asam'])
      .describe('Optimizer; several, or all of them, in turns'),
    ...{ batch, dtype, device: computeDevice, peer },
    variants: z
      .array(z.enum([...new Set([...VARIANTS.cpu, ...VARIANTS.cuda])]))
      .min(1)
      .optional()
      .describe('Variants of the PyTorch peer (default: those of the device)'),
    peerTimeout: positiveInteger
      .optional()
      .describe('Seconds that each variant may take to get warm, else it is left out (default: as long as it takes)'),
    ...commonFields,
  }),
  run: async ({ optimizer, device, ...given }, context) => {
    checkPeer(given.peer, 'variants', given.variants);
    checkPeer(given.peer, 'peer-timeout', given.peerTimeout);
    const options = { ...given, device: settleDevice(device) };
    // As the peers do.
    if (options.device !== 'cpu') await load({ cuda: { cudnnBenchmark: true } });
    const methods = optimizer.includes('all') ? METHODS : (optimizer as Method[]);
    const [only] = methods;
    const several = methods.length > 1;
    if (several && options.peer)
      throw new UsageError(
        '--peer: PyTorch is timed beside one optimizer; name one with --optimizer, or leave --peer out',
      );
    return report('train', options, context, (settings) => {
      if (several || only === undefined) return benchMethods(methods, { ...options, ...settings });
      return benchTrain({ ...options, optimizer: only, ...settings });
    });
  },
});

export const benchLoopCommand = defineCommand({
  name: 'bench loop',
  summary: 'measure what training from Node costs, and how free the event loop stays',
  schema: z.strictObject({ ...{ model, optimizer, batch }, ...commonFields, steps: commonFields.steps.default(20) }),
  run: (options, context) => report('loop', options, context, (settings) => benchLoop({ ...options, ...settings })),
});

export const benchDataCommand = defineCommand({
  name: 'bench data',
  summary: 'time random resized crops from a folder of images',
  details: `Images a second and a core, on one thread and on --threads of them. A step is a batch.

Example:
  flatmin bench data --data-dir imagenet/train --peer`,
  schema: z.strictObject({
    dataDir: path.describe('Folder of images, one subfolder a class'),
    size: positiveInteger.default(224).describe('Side of the crops, in pixels'),
    batch: positiveInteger.default(50).describe('Images a batch'),
    peer,
    decoders: z
      .array(z.enum(DECODERS))
      .min(1)
      .optional()
      .describe('Decoders of the PyTorch peer (default: all of them)'),
    ...commonFields,
    steps: commonFields.steps.default(12),
  }),
  run: async (options, context) => {
    checkPeer(options.peer, 'decoders', options.decoders);
    return report('data', options, context, (settings) => benchData({ ...options, ...settings }));
  },
});
