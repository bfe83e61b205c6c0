// nvcc and the CUDA headers, from NVIDIA's Python wheels into the cache: about 100 MB, no CUDA installation and no GPU needed.
// What is there already is taken as it is.

import { chmodSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { importDist, say, withLock } from './base.mjs';

/** The toolkit that torch 2.11 and 2.13 are built with. */
const release = '13.0.3';

const manylinux2014 = 'manylinux2014_x86_64.manylinux_2_17_x86_64';
const manylinux2010 = 'manylinux2010_x86_64.manylinux_2_12_x86_64';

/** Compiler, its back end, and headers. */
const wheels = [
  wheel(
    'nvidia-cuda-nvcc',
    '13.0.88',
    manylinux2014,
    37_384_532,
    '56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03',
  ),
  wheel(
    'nvidia-nvvm',
    '13.0.88',
    manylinux2010,
    61_601_415,
    'c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0',
  ),
  wheel(
    'nvidia-cuda-crt',
    '13.0.88',
    manylinux2014,
    134_086,
    '2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4',
  ),
  wheel(
    'nvidia-cuda-runtime',
    '13.0.96',
    manylinux2014,
    2_243_632,
    '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
  ),
];

function wheel(name, version, tags, bytes, sha256) {
  return { name, version, file: `${name.replaceAll('-', '_')}-${version}-py3-none-${tags}.whl`, bytes, sha256 };
}

let found;

/** The toolkit's folder (`bin/nvcc`, `include/`, `lib/`), brought if it is missing. Needs dist/. */
export function cudaToolkit() {
  found ??= findOrBring();
  return found;
}

async function findOrBring() {
  const { cacheRoot } = await importDist('native/paths.js');
  const cache = cacheRoot(process.env);
  const home = join(cache, `cuda-toolkit-${release}`);
  const toolkit = join(home, 'nvidia', 'cu13');
  if (existsSync(toolkit)) return toolkit;
  await withLock(join(cache, 'cuda-toolkit.lock'), async () => {
    if (!existsSync(toolkit)) await bring(home, cache);
  });
  return toolkit;
}

async function bring(home, cache) {
  const { thisWorld } = await importDist('native/setup/world.js');
  const { downloadWheels } = await importDist('native/setup/pip.js');
  const { checkWheels } = await importDist('native/setup/checks.js');
  const { unzip } = await importDist('native/setup/unzip.js');
  const world = thisWorld();
  const python = world.python();
  if (!python?.hasPip) throw new Error('the CUDA toolkit comes as Python wheels: install Python 3 with pip');
  const reporter = { note: (line) => say(`CUDA toolkit: ${line}`), progress: () => {} };
  const downloads = join(cache, 'cuda-toolkit-downloads');
  await downloadWheels(downloads, wheels, python.command, world, reporter);
  await checkWheels(downloads, wheels, reporter);
  // Unpacked aside and renamed, so that an interrupted one never stands there.
  const staging = `${home}.unpacking`;
  rmSync(staging, { recursive: true, force: true });
  const everything = (entry) => entry;
  for (const { file } of wheels) await unzip(join(downloads, file), staging, everything, reporter.progress);
  for (const folder of ['bin', 'nvvm/bin']) {
    const path = join(staging, 'nvidia', 'cu13', folder);
    for (const name of readdirSync(path)) chmodSync(join(path, name), 0o755);
  }
  renameSync(staging, home);
  rmSync(downloads, { recursive: true, force: true });
  say(`CUDA toolkit: ${release} in ${home}`);
}
