// Downloading a data set, against a local server with a tiny archive. No network is needed.

import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from 'tar';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../src/datasets.js';

let root: string;
let dir: string;
let archive: Buffer;
let md5: string;
let server: Server;
let baseUrl: string;
let requests: string[];

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'flatmin-download-'));
  const folder = join(root, 'cifar-10-batches-bin');
  await mkdir(folder);
  await writeFile(join(folder, 'test_batch.bin'), 'pixels');
  const file = join(root, 'archive.tar.gz');
  await create({ gzip: true, cwd: root, file }, ['cifar-10-batches-bin']);
  archive = await readFile(file);
  md5 = createHash('md5').update(archive).digest('hex');
  server = createServer((request, response) => {
    requests.push(request.url ?? '');
    if (request.url === '/data/cifar-10-binary.tar.gz')
      response.writeHead(200, { 'content-length': archive.length }).end(archive);
    else if (request.url?.endsWith('.mat')) response.end(request.url.split('/').at(-1));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/data`;
});

beforeEach(async () => {
  requests = [];
  dir = await mkdtemp(join(root, 'dir-'));
});

afterAll(async () => {
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true });
});

describe('datasets.download', () => {
  it('leaves the checked folder and nothing else, reports progress, and does not download twice', async () => {
    const progress: number[] = [];
    const options = {
      baseUrl,
      md5,
      onProgress: ({ receivedBytes }: { receivedBytes: number }) => void progress.push(receivedBytes),
    };
    const folder = await download('cifar10', dir, options);
    expect(await readFile(join(folder, 'test_batch.bin'), 'utf8')).toBe('pixels');
    expect(await readdir(dir)).toEqual(['cifar-10-batches-bin']);
    expect(progress.at(-1)).toBe(archive.length);
    expect(await download('cifar10', dir, options)).toBe(folder);
    expect(requests).toHaveLength(1);
  });

  it('refuses a file with another checksum, and leaves nothing', async () => {
    const wrong = '0'.repeat(32);
    await expect(download('cifar10', dir, { baseUrl, md5: wrong })).rejects.toMatchObject({
      code: 'ERR_FLATMIN_CHECKSUM',
      message: expect.stringContaining(`found MD5 ${md5}, expected ${wrong}`),
    });
    expect(await readdir(dir)).toEqual([]);
  });

  it('names the address and the status when the file is not there', async () => {
    await expect(download('cifar100', dir, { baseUrl })).rejects.toMatchObject({
      code: 'ERR_FLATMIN_DATA',
      message: expect.stringMatching(/cifar-100-binary\.tar\.gz: found HTTP status 404/),
    });
    expect(await readdir(dir)).toEqual([]);
  });

  it('brings sets of several files, each checked', async () => {
    const files = ['train_32x32.mat', 'test_32x32.mat'];
    const md5s = Object.fromEntries(files.map((file) => [file, createHash('md5').update(file).digest('hex')]));
    const folder = await download('svhn', dir, { baseUrl, md5: md5s });
    expect((await readdir(folder)).sort()).toEqual([...files].sort());
    expect(await readFile(join(folder, 'test_32x32.mat'), 'utf8')).toBe('test_32x32.mat');
    expect(await readdir(dir)).toEqual(['svhn']);

    const half = join(dir, 'half');
    const wrong = { ...md5s, 'test_32x32.mat': '0'.repeat(32) };
    await expect(download('svhn', half, { baseUrl, md5: wrong })).rejects.toMatchObject({
      code: 'ERR_FLATMIN_CHECKSUM',
      message: expect.stringContaining('test_32x32.mat'),
    });
    expect(await readdir(half)).toEqual([]);
  });

  it('explains how to get ImageNet by hand', async () => {
    await expect(download('imagenet' as never, dir)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_DATA',
      message: expect.stringContaining('ILSVRC2012_img_val.tar'),
    });
  });

  it('can be aborted', async () => {
    await expect(download('cifar10', dir, { baseUrl, md5, signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });

  it('refuses an unknown name and wrong options', async () => {
    await expect(download('cifar11' as never, dir)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_NAME',
      message: expect.stringContaining("did you mean 'cifar10'?"),
    });
    await expect(download('cifar10', dir, { baseUrl: 'here' })).rejects.toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
    await expect(download('cifar10', dir, { md5: 'x' })).rejects.toThrow('an MD5 sum of 32 hexadecimal digits');
  });
});
