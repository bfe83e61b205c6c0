// Downloads CIFAR-10 and CIFAR-100 from their own site: to a temporary folder, checked, unpacked, and only then renamed.
// A second call finds the folder and does nothing.

import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { extract } from 'tar';
import { FlatminError } from './errors.js';
import { downloadSchema } from './options/data.js';
import { path } from './options/fields.js';
import { parseOptions, show, suggestion } from './options/parse.js';
import { receive } from './receive.js';

/** Archives by name: file on the site, its published MD5 sum, and the folder inside. */
const archives = {
  cifar10: { file: 'cifar-10-binary.tar.gz', md5: 'c32a1d4ab5d03f1284b67883e8d87530', folder: 'cifar-10-batches-bin' },
  cifar100: { file: 'cifar-100-binary.tar.gz', md5: '03b5dce01913d631647c71ecec9e9cb8', folder: 'cifar-100-binary' },
} as const;

const site = 'https://www.cs.toronto.edu/~kriz/';

/** Options of {@link download}. */
export interface DownloadOptions {
  /** Where the archive lies (default: the data set's own site). */
  baseUrl?: string | undefined;
  /** Checksum of the archive (default: the published one). */
  md5?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: { receivedBytes: number; totalBytes: number | null }) => void) | undefined;
}

/**
 * Downloads a data set into `dir`; proxies are taken from the environment.
 * @returns The folder to read it from, for `datasets.cifar10(folder)`.
 * @throws `ERR_FLATMIN_DATA` when the site does not give the file, `ERR_FLATMIN_CHECKSUM` when it is not the right one.
 */
export async function download(
  name: keyof typeof archives,
  dir: string,
  options: DownloadOptions = {},
): Promise<string> {
  const archive = archiveOf(name);
  const { signal, onProgress, ...plain } = options ?? {};
  const { baseUrl = site, md5 = archive.md5 } = parseOptions(downloadSchema, plain, 'datasets.download');
  const target = join(parseOptions(path, dir, 'datasets.download dir'), archive.folder);
  if (await exists(target)) return target;
  await mkdir(dir, { recursive: true });
  const temporary = await mkdtemp(join(dir, '.download-'));
  try {
    const file = join(temporary, archive.file);
    const url = new URL(archive.file, baseUrl.endsWith('/') ? baseUrl : `${baseUrl}/`);
    const found = await receive(url, file, { hash: 'md5', signal, onProgress }).catch((error: unknown) => {
      signal?.throwIfAborted();
      throw new FlatminError(
        'ERR_FLATMIN_DATA',
        `${url}: ${(error as Error).message}; check the network and the proxy variables, or give baseUrl`,
        error,
      );
    });
    if (found !== md5) {
      throw new FlatminError(
        'ERR_FLATMIN_CHECKSUM',
        `${url}: found MD5 ${found}, expected ${md5}; the download was damaged or the file replaced, try again or give another baseUrl`,
      );
    }
    await extract({ file, cwd: temporary });
    await putInPlace(join(temporary, archive.folder), target);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return target;
}

function archiveOf(name: keyof typeof archives): (typeof archives)[keyof typeof archives] {
  if (Object.hasOwn(archives, name)) return archives[name];
  const names = Object.keys(archives);
  throw new FlatminError(
    'ERR_FLATMIN_NAME',
    `datasets.download: found ${show(name)}, expected one of ${names.join(', ')}${suggestion(String(name), names)}`,
  );
}

/** Another process may have been faster: its folder is as good. */
async function putInPlace(folder: string, target: string): Promise<void> {
  if (!(await exists(folder))) {
    throw new FlatminError(
      'ERR_FLATMIN_FORMAT',
      `The archive holds no folder ${folder.split('/').at(-1)}; expected CIFAR's binary version`,
    );
  }
  try {
    await rename(folder, target);
  } catch (error) {
    if (!(await exists(target))) throw error;
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
