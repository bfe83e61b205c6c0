// Puts a libtorch into the cache: unpacked beside its place under a temporary name, looked at, then renamed.
// So a half-written one never stands there under its real name, whatever interrupts set-up.

import { mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FlatminError } from '../../errors.js';
import { fitting, type Libtorch, type LibtorchDevice } from '../libtorch.js';
import { type Archive, type LibtorchTable, type Wheel, wheelsFor } from '../libtorch-table.js';
import { checkSpace, checkWheels, missingWheels, sha256 } from './checks.js';
import { archiveSelector, wheelSelector } from './layout.js';
import { megabytes, type Reporter } from './reporter.js';
import { unzip } from './unzip.js';
import type { SetupWorld } from './world.js';

/** Files to install from. */
export type Source =
  | { readonly kind: 'wheels'; readonly folder: string; readonly wheels: readonly Wheel[] }
  | { readonly kind: 'archive'; readonly path: string; readonly archive: Archive };

const temporaryPrefix = '.unpacking-';

/**
 * What lies in a folder that `--download-only` filled.
 * @throws `ERR_FLATMIN_PATH` naming the files that are missing.
 */
export async function sourceIn(folder: string, device: LibtorchDevice, table: LibtorchTable): Promise<Source> {
  const names = await readdir(folder).catch(() => undefined);
  if (names === undefined) throw new FlatminError('ERR_FLATMIN_PATH', `--from-dir: ${folder} is not a readable folder`);
  const wheels = wheelsFor(table, device);
  const missing = await missingWheels(folder, wheels);
  if (missing.length === 0) return { kind: 'wheels', folder, wheels };
  const archive = table.archives[device];
  if (names.includes(archive.file)) return { kind: 'archive', archive, path: join(folder, archive.file) };
  throw new FlatminError(
    'ERR_FLATMIN_PATH',
    `--from-dir: ${folder} lacks, or holds in another size, ${missing.map((wheel) => wheel.file).join(', ')} (or ${archive.file} in their place). ` +
      `Fill it elsewhere with: flatmin setup --device ${device} --download-only DIR`,
  );
}

/** Unpacks a source to `home` and returns the libtorch there. */
export async function install(
  source: Source,
  home: string,
  device: LibtorchDevice,
  world: SetupWorld,
  reporter: Reporter,
): Promise<Libtorch> {
  const parent = dirname(home);
  await removeLeftovers(parent);
  const total = unpackedBytes(source, device);
  checkSpace(parent, total, await world.freeBytes(parent));
  if (source.kind === 'wheels') await checkWheels(source.folder, source.wheels, reporter);
  else
    reporter.note(
      `sha256 of ${source.archive.file}: ${await sha256(source.path)} (PyTorch publishes none to compare with)`,
    );
  const temporary = join(parent, `${temporaryPrefix}${process.pid}`);
  try {
    await unpack(source, temporary, device, total, reporter);
    if (source.kind === 'wheels')
      await writeFile(join(temporary, 'torch', 'build-version'), `${world.table.version}\n`);
    checkUnpacked(temporary, world.table.version, device);
    // What stands there now does not fit, or nobody would be installing.
    await rm(home, { recursive: true, force: true });
    await rename(temporary, home);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return checkUnpacked(home, world.table.version, device);
}

function unpackedBytes(source: Source, device: LibtorchDevice): number {
  if (source.kind === 'archive') return source.archive.unpacked;
  return source.wheels.reduce((sum, wheel) => sum + wheel.unpacked[device], 0);
}

async function unpack(
  source: Source,
  target: string,
  device: LibtorchDevice,
  total: number,
  reporter: Reporter,
): Promise<void> {
  let written = 0;
  const onBytes = (count: number): void => {
    written += count;
    reporter.progress(`unpacking ${megabytes(written)} of about ${megabytes(total)}`);
  };
  reporter.note(`unpacking to ${dirname(target)}`);
  if (source.kind === 'archive') return unzip(source.path, target, archiveSelector, onBytes);
  for (const wheel of source.wheels)
    await unzip(join(source.folder, wheel.file), target, wheelSelector(wheel, device), onBytes);
}

function checkUnpacked(folder: string, version: string, device: LibtorchDevice): Libtorch {
  const fit = fitting(folder, version, device);
  if ('libtorch' in fit) return fit.libtorch;
  throw new FlatminError(
    'ERR_FLATMIN_CHECKSUM',
    `What was unpacked is not the libtorch that was expected: ${fit.problem}`,
  );
}

/** Makes the cache point to a libtorch that lies elsewhere, in place of whatever is there. */
export async function adopt(root: string, home: string): Promise<void> {
  await removeLeftovers(dirname(home));
  const temporary = join(dirname(home), `${temporaryPrefix}${process.pid}`);
  await mkdir(temporary, { recursive: true });
  await symlink(root, join(temporary, 'torch'));
  await rm(home, { recursive: true, force: true });
  await rename(temporary, home);
}

/** Removes what interrupted runs left; the lock keeps others from being at work here. */
async function removeLeftovers(parent: string): Promise<void> {
  await mkdir(parent, { recursive: true });
  const names = (await readdir(parent)).filter((name) => name.startsWith(temporaryPrefix));
  await Promise.all(names.map((name) => rm(join(parent, name), { recursive: true, force: true })));
}
