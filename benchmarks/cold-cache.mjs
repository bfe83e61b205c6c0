// How fast an epoch of image files is when nothing of them is in memory yet: from a folder and from shards, in turns. Before
// each epoch the kernel's page cache is emptied, which only root may do, and which slows down everything else on the machine.
// Run: node benchmarks/cold-cache.mjs FOLDER [--copies 25] [--size 224] [--rounds 3] [--out FILE]; FOLDER has one subfolder a class.

import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { series } from '../dist/bench/statistics.js';
import { datasets } from '../dist/index.js';
import { report } from './gpu/common.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    copies: { type: 'string', default: '25' },
    size: { type: 'string', default: '224' },
    rounds: { type: 'string', default: '3' },
    out: { type: 'string' },
  },
});
const [source] = positionals;
if (source === undefined) throw new Error('FOLDER is missing: a folder of images, one subfolder a class');
const [copies, size, rounds] = [values.copies, values.size, values.rounds].map(Number);

const work = mkdtempSync(join(tmpdir(), 'flatmin-cold-'));
try {
  report(values.out, { bench: 'cold-cache', ...(await measure(work)) });
} finally {
  rmSync(work, { recursive: true });
}

async function measure(work) {
  const [folder, shards] = [join(work, 'folder'), join(work, 'shards')];
  copy(source, folder);
  await datasets.pack(await datasets.imageFolder(folder), shards);
  const open = {
    folder: () => datasets.imageFolder(folder, { size }),
    shards: () => datasets.webdataset(shards, { size }),
  };
  const rates = { folder: { cold: [], warm: [] }, shards: { cold: [], warm: [] } };
  let images = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, opened] of Object.entries(open)) {
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      for (const cache of ['cold', 'warm']) {
        const epoch = await read(opened, round);
        images = epoch.images;
        rates[name][cache].push(epoch.images / epoch.seconds);
      }
    }
  }
  const ratio = rates.shards.cold.map((rate, round) => rate / rates.folder.cold[round]);
  const summary = Object.fromEntries(
    Object.entries(rates).map(([name, { cold, warm }]) => [name, { cold: series(cold), warm: series(warm) }]),
  );
  return { images, size, rounds, imagesPerSecond: summary, shardsOverFolderCold: series(ratio) };
}

/** Every image so many times, class by class, as unpacking an archive leaves them. */
function copy(from, to) {
  for (const name of readdirSync(from)) {
    mkdirSync(join(to, name), { recursive: true });
    for (const file of readdirSync(join(from, name))) {
      for (let number = 0; number < copies; number += 1)
        copyFileSync(join(from, name, file), join(to, name, `${number}-${file}`));
    }
  }
}

/** One shuffled epoch, opening included. */
async function read(open, epoch) {
  const start = performance.now();
  let images = 0;
  for await (const batch of (await open()).batches({ batchSize: 50, epoch, dtype: 'uint8', augment: 'imagenet' }))
    images += batch.images.shape[0];
  return { images, seconds: (performance.now() - start) / 1000 };
}
