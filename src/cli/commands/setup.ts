// `flatmin setup` and `flatmin doctor`: bring libtorch, and say what is right and wrong on this machine.
import { z } from 'zod';
import { path } from '../../options/fields.js';
import { defineCommand } from '../command.js';
import { runDoctor } from '../doctor.js';
import { EXIT } from '../failure.js';
import { runSetup } from '../setup.js';

const device = z
  .enum(['auto', 'cpu', 'cuda'])
  .default('auto')
  .describe('What libtorch must be able to compute on; auto decides by the NVIDIA driver');

const setupSchema = z.strictObject({
  device,
  libtorch: path.optional().describe('Use this libtorch folder'),
  fromPython: z.boolean().default(false).describe('Use the PyTorch of the installed Python'),
  fromDir: path.optional().describe('Install from the files that --download-only brought'),
  downloadOnly: path.optional().describe('Only download the files into this folder, for a machine without network'),
});

export const setupCommand = defineCommand({
  name: 'setup',
  summary: 'bring libtorch, which does the computing',
  details: `Without a network: run 'flatmin setup --download-only DIR' where there is one, copy DIR, and run 'flatmin setup --from-dir DIR'.
The environment variables FLATMIN_LIBTORCH and LIBTORCH name an existing libtorch, FLATMIN_CACHE where flatmin keeps its own.`,
  schema: setupSchema,
  computes: false,
  async run({ libtorch, fromDir, downloadOnly, ...rest }, { output }) {
    const folders = {
      ...(libtorch !== undefined && { libtorch }),
      ...(fromDir !== undefined && { fromDir }),
      ...(downloadOnly !== undefined && { downloadOnly }),
    };
    await runSetup({ ...rest, ...folders }, output);
  },
});

export const doctorCommand = defineCommand({
  name: 'doctor',
  summary: 'check this machine, and name the fix for what is wrong',
  schema: z.strictObject({}),
  async run(options, { output, exit }) {
    const { ok } = await runDoctor(options, output);
    if (!ok) exit(EXIT.failure);
  },
});
