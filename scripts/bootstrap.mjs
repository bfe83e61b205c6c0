// Makes a clone ready: node_modules, dist/ (compiled TypeScript), libtorch, native/ (the addon). Only what is missing or
// stale is made, so calling it before every command is cheap. Uses Node's own modules alone: it runs before `npm ci`.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { hashFiles, importDist, root, run, say, withLock } from './lib/base.mjs';
import { buildEnvironment, libtorchForBuild } from './lib/libtorch.mjs';
import { checkNode, requireBuildTools, warnWithoutPython } from './lib/tools.mjs';
import { nativeFolder, takeRelease, usual, workspace } from './lib/torch.mjs';

const distFolder = join(root, 'dist');

/** Commands that work without libtorch and the addon; setup and doctor must, since they bring or explain them. */
const commandsWithoutNative = new Set(['setup', 'doctor', 'figures', 'report', 'dashboard', 'help', undefined]);

/** Whether a command line needs nothing but the compiled TypeScript. */
export function needsOnlyTypeScript(args) {
  const command = args.find((word) => !word.startsWith('-'));
  const asksForText = args.some((word) => ['--help', '-h', '--version', '-V', '--print-schema'].includes(word));
  return asksForText || commandsWithoutNative.has(command);
}

/**
 * Brings the clone up to date.
 * @param {{ native?: boolean, release?: object }} options `native: false` leaves out libtorch and the addon; `release` is the
 * libtorch to build against.
 */
export async function ensureReady({ native = true, release = usual } = {}) {
  checkNode();
  await ensure('typescript', [packages, typescript]);
  if (native) await ensure('native', [libtorch(release), addon(release)]);
}

/** Brings the libtorch of a release, without building the addon for it. */
export async function ensureLibtorch(release = usual) {
  await ensureReady({ native: false });
  await ensure('native', [libtorch(release)]);
}

/** Makes the steps that are not fresh; a group has a lock of its own, so that building the addon holds up no `doctor`. */
async function ensure(group, steps) {
  if (await allFresh(steps)) return;
  await withLock(join(root, '.cache', `${group}.lock`), async () => {
    for (const step of steps) {
      if (await step.isFresh()) continue;
      const start = performance.now();
      await step.make();
      say(`${step.name}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    }
  });
}

async function allFresh(steps) {
  for (const step of steps) if (!(await step.isFresh())) return false;
  return true;
}

/** npm packages: fresh when what is installed is what package-lock.json names, whatever command installed it. */
const packages = {
  name: 'npm packages',
  isFresh() {
    const installedFile = join(root, 'node_modules', '.package-lock.json');
    if (!existsSync(installedFile)) return false;
    const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
    const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
    // Optional packages belong to other platforms as often as not; the empty name is this package itself.
    return Object.entries(locked).every(
      ([name, { version, optional }]) => name === '' || optional === true || installed[name]?.version === version,
    );
  },
  make() {
    say('npm packages: installing');
    run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund']);
  },
};

/** dist/: fresh when the hash of all sources that it was compiled from is the one stamped into it. */
const typescript = {
  name: 'TypeScript',
  isFresh() {
    return readStamp(join(distFolder, '.stamp')) === typescriptHash();
  },
  make() {
    say('TypeScript: compiling');
    const hash = typescriptHash();
    // Compiled aside, so that a mistake in the source leaves the last good dist/ in place.
    const staging = join(root, '.dist-new');
    rmSync(staging, { recursive: true, force: true });
    const tsc = join('node_modules', 'typescript', 'bin', 'tsc');
    run(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', staging]);
    writeFileSync(join(staging, '.stamp'), hash);
    rmSync(distFolder, { recursive: true, force: true });
    renameSync(staging, distFolder);
  },
};

function typescriptHash() {
  return hashFiles(['src', 'tsconfig.json', 'tsconfig.build.json', 'package-lock.json']);
}

/** libtorch: fresh when the loader would find one. */
const libtorch = (release) => ({
  name: 'libtorch',
  async isFresh() {
    return (await libtorchForBuild(release)) !== undefined;
  },
  async make() {
    requireBuildTools();
    warnWithoutPython();
    const { setUp } = await importDist('native/setup/index.js');
    const { thisWorld } = await importDist('native/setup/world.js');
    const { libtorchTable, olderTable } = await importDist('native/libtorch-table.js');
    const table = [libtorchTable, olderTable].find(({ version }) => version === release.torch);
    const progress = process.stderr.isTTY ? (line) => process.stderr.write(`\r\u001b[2K${line}`) : () => {};
    const note = (line) => say(`${process.stderr.isTTY ? '\r\u001b[2K' : ''}libtorch: ${line}`);
    const { path } = await setUp({ device: 'cpu' }, { note, progress }, { ...thisWorld(), table });
    note(`in ${path}`);
  },
});

/** native/: fresh when sources and libtorch's release are those that build.json names. */
const addon = (release) => ({
  name: 'addon',
  async isFresh() {
    const stamp = readStamp(join(nativeFolder(release), 'build.json'));
    if (stamp === undefined) return false;
    const { sources, libtorch: version } = JSON.parse(stamp);
    return version === (await libtorchForBuild(release))?.version && sources === addonHash();
  },
  async make() {
    requireBuildTools();
    say('addon: building (the first time takes about four minutes on two cores)');
    const sources = addonHash();
    const { version } = await libtorchForBuild(release);
    const { folder, env: own } = workspace(release);
    const env = { ...(await buildEnvironment(release)), ...own };
    const target = nativeFolder(release);
    // Built aside and renamed, so that a process that has the old one open keeps it.
    const staging = join(target, '.building');
    rmSync(staging, { recursive: true, force: true });
    mkdirSync(staging, { recursive: true });
    try {
      napiBuild(folder, 'crates/node/Cargo.toml', 'package.json', 'index.d.ts', staging, env);
      napiBuild(folder, 'crates/preload/Cargo.toml', 'crates/preload/napi.json', 'preload.d.ts', staging, env);
      const suffix = 'linux-x64-gnu.node';
      for (const file of [`flatmin.${suffix}`, `preload.${suffix}`, 'index.d.ts']) {
        renameSync(join(staging, file), join(target, file));
      }
      writeFileSync(join(target, 'build.json'), `${JSON.stringify({ libtorch: version, sources })}\n`);
    } finally {
      rmSync(staging, { recursive: true, force: true });
    }
  },
});

function addonHash() {
  return hashFiles(['crates', 'Cargo.toml', 'Cargo.lock', 'build.rs'], (path) => !/\/(tests|benches)\//.test(path));
}

function napiBuild(folder, manifest, config, types, output, env) {
  const cli = join('node_modules', '@napi-rs', 'cli', 'dist', 'cli.js');
  const files = ['--manifest-path', join(folder, manifest), '--output-dir', output, '--dts', types, '--no-js'];
  const configuration = config === 'package.json' ? [] : ['--config-path', config];
  run(process.execPath, [cli, 'build', '--platform', '--release', ...files, ...configuration], env);
}

function readStamp(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

async function main() {
  const { release, rest } = takeRelease(process.argv.slice(2));
  await ensureReady({ native: !rest.includes('--no-native'), release });
  say('everything is ready');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().catch((error) => {
    say(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  });
}
