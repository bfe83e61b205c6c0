// Brings PyTorch's own libtorch archive, for machines without Python and pip.
// PyTorch publishes no sha256 beside it: what vouches for it is TLS, its length, the CRC-32 of each entry and the version
// file inside.

import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FlatminError } from '../../errors.js';
import { receive } from '../../receive.js';
import type { Archive } from '../libtorch-table.js';
import type { Environment } from '../paths.js';
import { megabytes, type Reporter } from './reporter.js';

const downloadSite = 'https://download.pytorch.org';

/** Downloads the archive into `folder` and returns its path; one that is already there is taken as it is. */
export async function downloadArchive(
  folder: string,
  archive: Archive,
  env: Environment,
  reporter: Reporter,
): Promise<string> {
  const path = join(folder, archive.file);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  const url = `${(env.FLATMIN_TORCH_MIRROR || downloadSite).replace(/\/+$/, '')}/${archive.path}`;
  reporter.note(`downloading ${url}`);
  const partial = `${path}.part`;
  try {
    await receive(url, partial, {
      hash: 'sha256',
      onProgress: ({ receivedBytes, totalBytes }) => {
        reporter.progress(`downloading ${megabytes(receivedBytes)} of ${totalBytes ? megabytes(totalBytes) : '?'}`);
      },
    });
    await rename(partial, path);
  } catch (error) {
    throw new FlatminError(
      'ERR_FLATMIN_SETUP',
      `Downloading ${url} failed: ${(error as Error).message}. Behind a proxy, set HTTPS_PROXY; for a mirror of the site, set ` +
        'FLATMIN_TORCH_MIRROR; or install Python 3 with pip and run setup again, or bring the files with --download-only and --from-dir.',
      error,
    );
  } finally {
    await rm(partial, { force: true });
  }
  return path;
}
