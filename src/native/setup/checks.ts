// The two checks before anything is unpacked: is there room, and are the files the ones that the table names.

import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FlatminError } from '../../errors.js';
import type { Wheel } from '../libtorch-table.js';
import { megabytes, type Reporter } from './reporter.js';

/** Free bytes for this user in the file system that holds `path`, which need not exist yet. */
export async function freeBytes(path: string): Promise<number> {
  let folder = path;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** @throws `ERR_FLATMIN_SETUP` when fewer than `needed` bytes are free. */
export function checkSpace(path: string, needed: number, free: number): void {
  if (free >= needed) return;
  throw new FlatminError(
    'ERR_FLATMIN_SETUP',
    `Not enough room in ${path}: ${megabytes(free)} are free, ${megabytes(needed)} are needed while unpacking. ` +
      'Free some, or set FLATMIN_CACHE to a folder on another disk.',
  );
}

/** The sha256 of a file, in hexadecimal. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** The wheels of `wheels` that are not (wholly) in `folder`. */
export async function missingWheels(folder: string, wheels: readonly Wheel[]): Promise<Wheel[]> {
  const sizes = await Promise.all(wheels.map((wheel) => stat(join(folder, wheel.file)).catch(() => undefined)));
  return wheels.filter((wheel, index) => sizes[index]?.size !== wheel.bytes);
}

/** @throws `ERR_FLATMIN_CHECKSUM` naming the first file that is not what the table says. */
export async function checkWheels(folder: string, wheels: readonly Wheel[], reporter: Reporter): Promise<void> {
  for (const wheel of wheels) {
    reporter.progress(`checking ${wheel.file}`);
    const path = join(folder, wheel.file);
    const found = await sha256(path);
    if (found === wheel.sha256) continue;
    throw new FlatminError(
      'ERR_FLATMIN_CHECKSUM',
      `${path} is damaged or not the original: its sha256 is ${found}, expected ${wheel.sha256}. Delete it and run setup again.`,
    );
  }
}
