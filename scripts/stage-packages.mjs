// Writes the npm packages as they are published, each into a folder of its own, ready for `npm publish FOLDER`:
//   node scripts/stage-packages.mjs OUTPUT
// The CUDA library is built for it (nvcc comes as Python wheels).
// The main package names the platform packages as optionalDependencies only there: in the clone they would make `npm ci`
// look for packages that are not published yet. Publish the platform packages first.

import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureReady } from './bootstrap.mjs';
import { root, say } from './lib/base.mjs';
import { buildCudaLibrary } from './lib/cuda-library.mjs';
import { usual } from './lib/torch.mjs';

/**
 * Stages all packages below `output`; returns the folders, platform packages first.
 * @param {{ cuda?: boolean }} options `cuda: false` leaves out the CUDA library.
 */
export async function stagePackages(output, { cuda = true } = {}) {
  await ensureReady();
  if (cuda) await buildCudaLibrary(usual);
  rmSync(output, { recursive: true, force: true });
  const main = readJson(join(root, 'package.json'));
  const platforms = readdirSync(join(root, 'npm')).map((key) => stagePlatform(key, main, join(output, key), cuda));
  stageMain(main, platforms, join(output, 'flatmin'));
  return [...platforms.map((platform) => platform.folder), join(output, 'flatmin')];
}

function stagePlatform(key, main, folder, cuda) {
  const listed = readJson(join(root, 'npm', key, 'package.json'));
  const files = listed.files.filter((file) => cuda || !file.startsWith('libflatmin_cuda'));
  const manifest = { ...listed, files, version: main.version };
  mkdirSync(folder, { recursive: true });
  for (const file of manifest.files) {
    const source = ['native', `npm/${key}`, '.']
      .map((place) => join(root, place, file))
      .find((path) => existsSync(path));
    if (source === undefined)
      throw new Error(`${file} of ${manifest.name} is in none of native/, npm/${key}/ and the root`);
    copyFileSync(source, join(folder, file));
  }
  copyFileSync(join(root, 'npm', key, 'README.md'), join(folder, 'README.md'));
  writeJson(join(folder, 'package.json'), manifest);
  return { name: manifest.name, folder };
}

function stageMain(manifest, platforms, folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of manifest.files) {
    if (!existsSync(join(root, name))) throw new Error(`${name}, which package.json's "files" names, does not exist`);
    cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  rmSync(join(folder, 'dist', '.stamp'), { force: true });
  const { devDependencies: _, scripts: __, napi: ___, ...published } = manifest;
  const optionalDependencies = Object.fromEntries(platforms.map(({ name }) => [name, manifest.version]));
  writeJson(join(folder, 'package.json'), { ...published, optionalDependencies });
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function writeJson(path, value) {
  writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const output = process.argv[2];
  if (output === undefined) {
    say('usage: node scripts/stage-packages.mjs OUTPUT');
    process.exitCode = 2;
  } else {
    stagePackages(resolve(output)).then(
      (folders) =>
        say(`ready to publish, in this order:\n${folders.map((folder) => `  npm publish ${folder}`).join('\n')}`),
      (error) => {
        say(error.message);
        process.exitCode = 1;
      },
    );
  }
}
