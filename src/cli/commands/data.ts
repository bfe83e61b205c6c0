// `flatmin data download`: brings a CIFAR archive from its own site, checks it and unpacks it.
import { datasets } from '../../index.js';
import { downloadSchema } from '../../options/index.js';
import { suggestion } from '../../options/parse.js';
import { defineCommand } from '../command.js';
import { UsageError } from '../failure.js';

const NAMES = ['cifar10', 'cifar100'] as const;
type Name = (typeof NAMES)[number];

const isName = (name: string): name is Name => (NAMES as readonly string[]).includes(name);

export const downloadCommand = defineCommand({
  name: 'data download',
  summary: 'download a data set and check its sum',
  operands: [
    { name: '<name>', description: NAMES.join(' or ') },
    { name: '<folder>', description: 'where its files go' },
  ],
  schema: downloadSchema,
  async run(options, { output, operands }) {
    const [name = '', folder = ''] = operands;
    if (!isName(name))
      throw new UsageError(`unknown data set '${name}'${suggestion(name, NAMES)} (one of ${NAMES.join(', ')})`);
    const path = await datasets.download(name, folder, options);
    output.document({ data: name, path });
    output.text(`${name} lies in ${path}`);
  },
});
