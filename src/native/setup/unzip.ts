// Unpacks chosen entries of a zip file (wheels are zip files, too) as streams, so that files of half a gigabyte need no memory.
// Each entry's CRC-32 is checked: for PyTorch's own archive, whose sha256 is not published, that is what shows damage.

import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { FlatminError } from '../../errors.js';

/** Where an entry goes, relative to the target folder; undefined to leave it out. */
export type Selector = (entry: string) => string | undefined;

/**
 * Unpacks the entries that `select` wants into `target`; `onBytes` hears how much was written since it was last called.
 * @throws `ERR_FLATMIN_CHECKSUM` when the archive is damaged.
 */
export async function unzip(
  archive: string,
  target: string,
  select: Selector,
  onBytes: (count: number) => void,
): Promise<void> {
  const zip = await damaged(archive, () => openPromise(archive, { autoClose: false }));
  try {
    await damaged(archive, async () => {
      for await (const entry of zip.eachEntry()) {
        const path = entry.fileName.endsWith('/') ? undefined : select(entry.fileName);
        if (path !== undefined) await writeEntry(zip, entry, join(target, path), onBytes);
      }
    });
  } finally {
    zip.close();
  }
}

async function writeEntry(zip: ZipFile, entry: Entry, path: string, onBytes: (count: number) => void): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  let checksum = 0;
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      checksum = crc32(chunk, checksum);
      onBytes(chunk.length);
      done(null, chunk);
    },
  });
  await pipeline(await zip.openReadStreamPromise(entry), check, createWriteStream(path));
  if (checksum !== entry.crc32) throw new Error(`the checksum of ${entry.fileName} is wrong`);
}

async function damaged<T>(archive: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // Errors of the file system (no space, no permission) have a system call; all others are the archive's.
    if (!(error instanceof Error) || 'syscall' in error) throw error;
    throw new FlatminError(
      'ERR_FLATMIN_CHECKSUM',
      `${archive} cannot be unpacked: ${error.message}. Delete it and run setup again.`,
      error,
    );
  }
}
