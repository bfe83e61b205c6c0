// Downloads published data sets from their own sites: to a temporary folder, checked, unpacked, and only then renamed.
// A second call finds the folder and does nothing.

import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { extract } from 'tar';
import { FlatminError } from './errors.js';
import { downloadSchema } from './options/data.js';
import { path } from './options/fields.js';
import { parseOptions, show, suggestion } from './options/parse.js';
import { receive } from './receive.js';

interface DownloadableSet {
  readonly site: string;
  /** The folder that is left. */
  readonly folder: string;
  /** MD5 sums as published, by file. */
  readonly files: Readonly<Record<string, string>>;
  /** The one file is a tar archive that holds the folder. */
  readonly archive: boolean;
}

const sets = {
  cifar10: {
    site: 'https://www.cs.toronto.edu/~kriz/',
    folder: 'cifar-10-batches-bin',
    files: { 'cifar-10-binary.tar.gz': 'c32a1d4ab5d03f1284b67883e8d87530' },
    archive: true,
  },
  cifar100: {
    site: 'https://www.cs.toronto.edu/~kriz/',
    folder: 'cifar-100-binary',
    files: { 'cifar-100-binary.tar.gz': '03b5dce01913d631647c71ecec9e9cb8' },
    archive: true,
  },
  mnist: {
    site: 'https://ossci-datasets.s3.amazonaws.com/mnist/',
    folder: 'mnist',
    files: {
      'train-images-idx3-ubyte.gz': 'f68b3c2dcbeaaa9fbdd348bbdeb94873',
      'train-labels-idx1-ubyte.gz': 'd53e105ee54ea40749a09fcbcd1e9432',
      't10k-images-idx3-ubyte.gz': '9fb629c4189551a2d022fa330f9573f3',
      't10k-labels-idx1-ubyte.gz': 'ec29112dd5afa0611ce80d1b7f02629c',
    },
    archive: false,
  },
  'fashion-mnist': {
    site: 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
    folder: 'fashion-mnist',
    files: {
      'train-images-idx3-ubyte.gz': '8d4fb7e6c68d591d4c3dfef9ec88bf0d',
      'train-labels-idx1-ubyte.gz': '25c81989df183df01b3e8a0aad5dffbe',
      't10k-images-idx3-ubyte.gz': 'bef4ecab320f06d8554ea6380940ec79',
      't10k-labels-idx1-ubyte.gz': 'bb300cfdad3c16e7a12a480ee83cd310',
    },
    archive: false,
  },
  svhn: {
    site: 'http://ufldl.stanford.edu/housenumbers/',
    folder: 'svhn',
    files: {
      'train_32x32.mat': 'e26dedcc434d2e4c54c9b2d4a06d8373',
      'test_32x32.mat': 'eb5a983be6a315427106f1b164d9cef3',
    },
    archive: false,
  },
} as const satisfies Record<string, DownloadableSet>;

/** Data sets that {@link download} brings. */
export type DownloadName = keyof typeof sets;

/** @internal Their names. */
export const downloadNames = Object.keys(sets) as DownloadName[];

/** Options of {@link download}. */
export interface DownloadOptions {
  /** Where the files lie (default: the data set's own site). */
  baseUrl?: string | undefined;
  /** Checksum of the archive, or of each file by its name (default: the published ones). */
  md5?: string | Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: { receivedBytes: number; totalBytes: number | null }) => void) | undefined;
}

/**
 * Downloads a data set into `dir`; proxies are taken from the environment.
 * @returns The folder to read it from, for `datasets.cifar10(folder)` and its sisters.
 * @throws `ERR_FLATMIN_DATA` when the site does not give a file, `ERR_FLATMIN_CHECKSUM` when one is not the right one.
 */
export async function download(name: DownloadName, dir: string, options: DownloadOptions = {}): Promise<string> {
  const set = setOf(name);
  const { signal, onProgress, ...plain } = options ?? {};
  const { baseUrl = set.site, md5 } = parseOptions(downloadSchema, plain, 'datasets.download');
  const target = join(parseOptions(path, dir, 'datasets.download dir'), set.folder);
  if (await exists(target)) return target;
  await mkdir(dir, { recursive: true });
  const temporary = await mkdtemp(join(dir, '.download-'));
  try {
    const folder = set.archive ? temporary : join(temporary, set.folder);
    await mkdir(folder, { recursive: true });
    for (const [file, published] of Object.entries(set.files)) {
      const url = new URL(file, baseUrl.endsWith('/') ? baseUrl : `${baseUrl}/`);
      const expected = typeof md5 === 'string' ? md5 : (md5?.[file] ?? published);
      await receiveChecked(url, join(folder, file), expected, { signal, onProgress });
      if (set.archive) await extract({ file: join(folder, file), cwd: temporary });
    }
    await putInPlace(join(temporary, set.folder), target);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return target;
}

async function receiveChecked(
  url: URL,
  file: string,
  md5: string,
  { signal, onProgress }: DownloadOptions,
): Promise<void> {
  const found = await receive(url, file, { hash: 'md5', signal, onProgress }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw new FlatminError(
      'ERR_FLATMIN_DATA',
      `${url}: ${(error as Error).message}; check the network and the proxy variables, or give baseUrl`,
      error,
    );
  });
  if (found === md5) return;
  throw new FlatminError(
    'ERR_FLATMIN_CHECKSUM',
    `${url}: found MD5 ${found}, expected ${md5}; the download was damaged or the file replaced, try again or give another baseUrl`,
  );
}

/** ImageNet has no public address: whoever downloads it must have agreed to its terms. */
const IMAGENET_STEPS = `ImageNet cannot be downloaded by a program, since its images are given to people who agree to its terms. By hand:
  1. register at https://www.image-net.org and ask for access to ILSVRC 2012
  2. download ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6.3 GB)
  3. unpack the first into train/, and each archive in it (n01440764.tar, ...) into a folder of its own name
  4. unpack the second into val/, and move each image into the folder of its class
Then train with --data imagefolder --data-dir DIR, or pack DIR/train and DIR/val into shards with 'flatmin data pack'`;

function setOf(name: DownloadName): DownloadableSet {
  if (Object.hasOwn(sets, name)) return sets[name];
  if (String(name) === 'imagenet') throw new FlatminError('ERR_FLATMIN_DATA', IMAGENET_STEPS);
  throw new FlatminError(
    'ERR_FLATMIN_NAME',
    `datasets.download: found ${show(name)}, expected one of ${downloadNames.join(', ')}${suggestion(String(name), downloadNames)}`,
  );
}

/** Another process may have been faster: its folder is as good. */
async function putInPlace(folder: string, target: string): Promise<void> {
  if (!(await exists(folder))) {
    throw new FlatminError(
      'ERR_FLATMIN_FORMAT',
      `The archive holds no folder ${basename(folder)}; expected CIFAR's binary version`,
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
