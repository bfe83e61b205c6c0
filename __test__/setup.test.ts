// `flatmin setup` in a made-up world: tiny wheels, a local server, a pip of our own. Nothing leaves this machine.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type LibtorchTable, libtorchTable, wheelsFor } from '../src/native/libtorch-table.js';
import { setUp } from '../src/native/setup/index.js';
import { withLock } from '../src/native/setup/lock.js';
import type { SetupWorld } from '../src/native/setup/world.js';
import { linux, listen, makeWheels, makeWorld, release, writeArchive, writeLibtorch } from './support/libtorch.js';

let root: string;
let wheels: string;
let cache: string;
let table: LibtorchTable;
let world: SetupWorld;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'flatmin-setup-')));
  wheels = join(root, 'wheels');
  cache = join(root, 'cache');
  table = makeWheels(wheels);
  world = makeWorld(cache, table);
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

const home = (device: string): string => join(cache, 'libtorch', `${release}-${device}`);
const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

describe('the table', () => {
  it('names each wheel once, with a whole sha256 and the version in its file name', () => {
    expect(new Set(libtorchTable.wheels.map((wheel) => wheel.file)).size).toBe(libtorchTable.wheels.length);
    for (const wheel of libtorchTable.wheels) {
      expect(wheel.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(wheel.file).toContain(`-${wheel.version}-`);
    }
  });

  it('asks for three wheels for the CPU and about 2.5 GB for CUDA', () => {
    expect(wheelsFor(libtorchTable, 'cpu').map((wheel) => wheel.name)).toEqual([
      'torch',
      'nvidia-cuda-runtime',
      'nvidia-cuda-cupti',
    ]);
    const total = wheelsFor(libtorchTable, 'cuda').reduce((sum, wheel) => sum + wheel.bytes, 0);
    expect(total / 1e9).toBeCloseTo(2.5, 0);
  });
});

describe('setup from a folder of wheels', () => {
  it('takes just what the CPU needs, with the licences, and leaves nothing else behind', async () => {
    const result = await setUp({ device: 'cpu', fromDir: wheels }, listen(), world);
    expect(result).toEqual({ action: 'installed', device: 'cpu', version: release, path: join(home('cpu'), 'torch') });
    expect(filesBelow(home('cpu'))).toEqual([
      'torch/build-version',
      'torch/include/torch/headeronly/version.h',
      'torch/lib/libc10.so',
      'torch/lib/libcudart.so.13',
      'torch/lib/libgomp.so.1',
      'torch/lib/libtorch.so',
      'torch/lib/libtorch_cpu.so',
      'torch/licenses/nvidia-runtime/License.txt',
      'torch/licenses/torch/LICENSE',
    ]);
    expect(readdirSync(join(cache, 'libtorch'))).toEqual([`${release}-cpu`]);
  });

  it('puts the CUDA libraries where the RPATH of libtorch_cuda.so looks for them', async () => {
    await setUp({ device: 'cuda', fromDir: wheels }, listen(), world);
    const libraries = filesBelow(home('cuda')).filter((file) => file.includes('.so'));
    expect(libraries).toContain('torch/lib/libtorch_cuda.so');
    expect(libraries).toContain('nvidia/cu13/lib/libcudart.so.13');
    expect(libraries).toContain('nvidia/cudnn/lib/libcudnn.so.9');
    expect(libraries).not.toContain('torch/lib/libtorch_python.so');
  });

  it('does nothing the second time', async () => {
    await setUp({ device: 'cpu', fromDir: wheels }, listen(), world);
    const reporter = listen();
    expect(await setUp({ device: 'cpu' }, reporter, world)).toMatchObject({ action: 'nothing', device: 'cpu' });
    expect(reporter.notes).toEqual([]);
  });

  it('decides by the driver when the device is auto', async () => {
    const withDriver = { ...world, hasDriver: () => true };
    expect(await setUp({ fromDir: wheels }, listen(), withDriver)).toMatchObject({ device: 'cuda' });
    expect(await setUp({ fromDir: wheels }, listen(), world)).toMatchObject({ device: 'cpu' });
  });

  it('refuses a wheel that is not the one in the table, and leaves nothing', async () => {
    const torch = join(wheels, 'torch.whl');
    const bytes = readFileSync(torch);
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    writeFileSync(torch, bytes);
    await expect(setUp({ device: 'cpu', fromDir: wheels }, listen(), world)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_CHECKSUM',
      message: expect.stringContaining(`expected ${table.wheels[0]?.sha256}`),
    });
    expect(readdirSync(join(cache, 'libtorch'))).toEqual([]);
  });

  it('names the files that are missing and the command that brings them', async () => {
    rmSync(join(wheels, 'runtime.whl'));
    await expect(setUp({ device: 'cpu', fromDir: wheels }, listen(), world)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_PATH',
      message: expect.stringMatching(/runtime\.whl.*flatmin setup --device cpu --download-only DIR/),
    });
  });

  it('asks for room before it unpacks', async () => {
    const full = { ...world, freeBytes: () => Promise.resolve(50) };
    await expect(setUp({ device: 'cpu', fromDir: wheels }, listen(), full)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_SETUP',
      message: expect.stringContaining('FLATMIN_CACHE'),
    });
    expect(existsSync(home('cpu'))).toBe(false);
  });

  it('replaces a damaged libtorch and removes what an interrupted run left', async () => {
    await setUp({ device: 'cpu', fromDir: wheels }, listen(), world);
    rmSync(join(home('cpu'), 'torch', 'lib', 'libtorch_cpu.so'));
    writeLibtorch(join(cache, 'libtorch', '.unpacking-1'));
    expect(await setUp({ device: 'cpu', fromDir: wheels }, listen(), world)).toMatchObject({ action: 'installed' });
    expect(readdirSync(join(cache, 'libtorch'))).toEqual([`${release}-cpu`]);
  });

  it('works once when two ask at the same time', async () => {
    const both = await Promise.all([1, 2].map(() => setUp({ device: 'cpu', fromDir: wheels }, listen(), world)));
    expect(both.map((result) => result.action).sort()).toEqual(['installed', 'nothing']);
  });
});

describe('setup with an existing libtorch', () => {
  it('uses a named folder in place, and finds it again', async () => {
    const folder = writeLibtorch(join(root, 'mine'));
    expect(await setUp({ device: 'cpu', libtorch: folder }, listen(), world)).toMatchObject({
      action: 'linked',
      path: folder,
    });
    expect(await setUp({ device: 'cpu', libtorch: folder }, listen(), world)).toMatchObject({ action: 'nothing' });
    expect(await setUp({ device: 'cpu' }, listen(), world)).toMatchObject({ action: 'nothing', path: folder });
  });

  it('refuses another release, a CPU build for CUDA and a folder without libtorch', async () => {
    const old = writeLibtorch(join(root, 'old'), '2.11.0');
    const cpu = writeLibtorch(join(root, 'cpu'));
    const codeOf = (libtorch: string, device: 'cpu' | 'cuda'): Promise<string> =>
      setUp({ device, libtorch }, listen(), world).then(
        () => 'accepted',
        (error: { code: string; message: string }) => `${error.code} ${error.message}`,
      );
    expect(await codeOf(old, 'cpu')).toMatch(/^ERR_FLATMIN_LIBTORCH_VERSION .*2\.11\.0.*9\.9\.9/);
    expect(await codeOf(cpu, 'cuda')).toMatch(/^ERR_FLATMIN_DEVICE /);
    expect(await codeOf(wheels, 'cpu')).toMatch(/^ERR_FLATMIN_LIBTORCH /);
  });

  it('takes FLATMIN_LIBTORCH and LIBTORCH, is strict with the first and passes over a wrong second', async () => {
    const good = writeLibtorch(join(root, 'good'));
    const old = writeLibtorch(join(root, 'old'), '2.11.0');
    const named = (env: Record<string, string>): SetupWorld => ({ ...world, env: { FLATMIN_CACHE: cache, ...env } });
    for (const name of ['FLATMIN_LIBTORCH', 'LIBTORCH']) {
      const result = await setUp({ device: 'cpu' }, listen(), named({ [name]: good }));
      expect(result).toMatchObject({ action: 'nothing', path: good });
    }
    await expect(setUp({ device: 'cpu' }, listen(), named({ FLATMIN_LIBTORCH: old }))).rejects.toMatchObject({
      code: 'ERR_FLATMIN_LIBTORCH_VERSION',
    });
    const reporter = listen();
    await setUp({ device: 'cpu', fromDir: wheels }, reporter, named({ LIBTORCH: old }));
    expect(reporter.notes[0]).toMatch(/LIBTORCH is not used: .*2\.11\.0/);
  });

  it('takes the PyTorch of an installed Python when asked', async () => {
    const torch = join(root, 'site-packages', 'torch');
    writeLibtorch(torch);
    rmSync(join(torch, 'build-version'));
    writeFileSync(join(torch, 'version.py'), `__version__ = '${release}+cpu'\n`);
    const python = { command: 'python3', version: '3.12.1', hasPip: true, torch };
    const result = await setUp({ device: 'cpu', fromPython: true }, listen(), { ...world, python: () => python });
    expect(result).toMatchObject({ action: 'linked', path: torch });
    const without = { ...world, python: () => ({ ...python, torch: null }) };
    await expect(setUp({ fromPython: true }, listen(), without)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_LIBTORCH',
      message: expect.stringContaining(`pip install torch==${release}`),
    });
  });
});

describe('setup through pip', () => {
  /** A Python whose `-m pip download` copies wheels, and writes down its arguments. */
  function fakePython(body: string): SetupWorld {
    const command = join(root, 'python');
    writeFileSync(command, `#!/bin/sh\necho "$@" > ${root}/arguments\n${body}\n`, { mode: 0o755 });
    const env = { FLATMIN_CACHE: cache, PATH: process.env.PATH };
    return { ...world, env, python: () => ({ command, version: '3.12.1', hasPip: true, torch: null }) };
  }

  it('asks for exactly the wheels of the table, for this platform whatever Python runs', async () => {
    const downloads = join(cache, 'downloads');
    const result = await setUp({ device: 'cpu' }, listen(), fakePython(`cp ${wheels}/*.whl ${downloads}`));
    expect(result).toMatchObject({ action: 'installed' });
    const asked = readFileSync(join(root, 'arguments'), 'utf8');
    expect(asked).toContain('--no-deps --only-binary=:all: --python-version 3.12 --implementation cp');
    expect(asked).toContain('--platform manylinux_2_28_x86_64 --platform manylinux1_x86_64');
    expect(asked.trim()).toMatch(new RegExp(`torch==${release} nvidia-runtime==${release}$`));
    expect(existsSync(downloads)).toBe(false);
  });

  it('with --download-only fills a folder that --from-dir accepts, and installs nothing', async () => {
    const folder = join(root, 'offline');
    const python = fakePython(`cp ${wheels}/torch.whl ${wheels}/runtime.whl ${folder}`);
    expect(await setUp({ device: 'cpu', downloadOnly: folder }, listen(), python)).toMatchObject({
      action: 'downloaded',
      path: folder,
    });
    expect(readdirSync(folder).sort()).toEqual(['runtime.whl', 'torch.whl']);
    expect(existsSync(home('cpu'))).toBe(false);
    expect(await setUp({ device: 'cpu', fromDir: folder }, listen(), world)).toMatchObject({ action: 'installed' });
  });

  it("shows pip's own words when it fails, and the ways out", async () => {
    const failing = fakePython('echo "ERROR: no route to host" >&2; exit 1');
    await expect(setUp({ device: 'cpu' }, listen(), failing)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_SETUP',
      message: expect.stringMatching(/no route to host[\s\S]*HTTPS_PROXY[\s\S]*--download-only/),
    });
  });

  it('drops a download that is not what the table says, so that the next run starts afresh', async () => {
    const spoiled = fakePython(
      `cp ${wheels}/*.whl ${cache}/downloads; printf x | dd of=${cache}/downloads/torch.whl bs=1 seek=40 conv=notrunc`,
    );
    await expect(setUp({ device: 'cpu' }, listen(), spoiled)).rejects.toMatchObject({ code: 'ERR_FLATMIN_CHECKSUM' });
    expect(existsSync(join(cache, 'downloads'))).toBe(false);
  });
});

describe('setup without Python', () => {
  let server: Server;
  let mirror: SetupWorld;
  let requests: string[];

  beforeEach(async () => {
    requests = [];
    for (const name of ['NO_PROXY', 'no_proxy']) vi.stubEnv(name, '127.0.0.1');
    server = createServer((request, response) => {
      requests.push(request.url ?? '');
      const file = join(root, 'site', request.url ?? '');
      if (request.url?.endsWith('cut.zip'))
        response.writeHead(200, { 'content-length': 100 }).write('PK', () => response.destroy());
      else if (existsSync(file)) response.writeHead(200).end(readFileSync(file));
      else response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    mirror = { ...world, env: { FLATMIN_CACHE: cache, FLATMIN_TORCH_MIRROR: address } };
    mkdirSync(join(root, 'site', 'libtorch'), { recursive: true });
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    await new Promise((resolve) => server.close(resolve));
  });

  it("takes PyTorch's own archive: shared libraries, headers and the version file", async () => {
    writeArchive(join(root, 'site', 'libtorch', 'cpu.zip'));
    const reporter = listen();
    expect(await setUp({ device: 'cpu' }, reporter, mirror)).toMatchObject({ action: 'installed' });
    expect(requests).toEqual(['/libtorch/cpu.zip']);
    expect(filesBelow(home('cpu'))).toEqual([
      'torch/build-version',
      'torch/include/torch/torch.h',
      'torch/lib/libtorch_cpu.so',
    ]);
    expect(reporter.notes.join('\n')).toMatch(/sha256 of cpu\.zip: [0-9a-f]{64}/);
  });

  it('goes through the proxy that the environment names', async () => {
    writeArchive(join(root, 'site', 'libtorch', 'cpu.zip'));
    const asked: string[] = [];
    const proxy = createServer().on('connect', (request, client: Socket) => {
      asked.push(request.url ?? '');
      const upstream = connect((server.address() as AddressInfo).port, '127.0.0.1', () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        upstream.pipe(client).pipe(upstream);
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    for (const name of ['NO_PROXY', 'no_proxy']) vi.stubEnv(name, '');
    for (const name of ['HTTP_PROXY', 'http_proxy']) vi.stubEnv(name, address);
    const env = { ...mirror.env, FLATMIN_TORCH_MIRROR: 'http://site.invalid' };
    expect(await setUp({ device: 'cpu' }, listen(), { ...mirror, env })).toMatchObject({ action: 'installed' });
    expect(asked).toEqual(['site.invalid:80']);
    await new Promise((resolve) => proxy.close(resolve));
  });

  it('refuses an archive of another release and a damaged one', async () => {
    const file = join(root, 'site', 'libtorch', 'cpu.zip');
    writeArchive(file, '2.11.0');
    await expect(setUp({ device: 'cpu' }, listen(), mirror)).rejects.toThrow(/2\.11\.0.*9\.9\.9/);
    writeArchive(file, release, 'libtorch/lib/libtorch_cpu.so');
    await expect(setUp({ device: 'cpu' }, listen(), mirror)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_CHECKSUM',
      message: expect.stringContaining('libtorch/lib/libtorch_cpu.so'),
    });
    expect(existsSync(home('cpu'))).toBe(false);
  });

  it('says what the server answered, and refuses a download that was cut short', async () => {
    await expect(setUp({ device: 'cpu' }, listen(), mirror)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_SETUP',
      message: expect.stringMatching(/cpu\.zip failed: found HTTP status 404.*FLATMIN_TORCH_MIRROR/),
    });
    const cut = { ...table.archives.cpu, path: 'libtorch/cut.zip' };
    const cutWorld = { ...mirror, table: { ...table, archives: { ...table.archives, cpu: cut } } };
    await expect(setUp({ device: 'cpu' }, listen(), cutWorld)).rejects.toMatchObject({ code: 'ERR_FLATMIN_SETUP' });
    expect(filesBelow(cache)).toEqual([]);
  });
});

describe('setup refuses', () => {
  it.each([
    [{ ...linux, os: 'darwin', arch: 'arm64', libc: null, libcVersion: null }, /Apple silicon.*container/],
    [{ ...linux, os: 'win32', libc: null, libcVersion: null }, /WSL 2/],
    [{ ...linux, arch: 'arm64' }, /Linux x64 machine/],
    [{ ...linux, libc: 'musl', libcVersion: '1.2.5' }, /musl \(Alpine\)/],
    [{ ...linux, libcVersion: '2.17' }, /newer distribution/],
  ])('a machine without a build: %o', async (machine, message) => {
    await expect(setUp({}, listen(), { ...world, machine })).rejects.toMatchObject({
      code: 'ERR_FLATMIN_PLATFORM',
      message: expect.stringMatching(message),
    });
  });

  it('two sources at once', async () => {
    await expect(setUp({ fromPython: true, fromDir: wheels }, listen(), world)).rejects.toMatchObject({
      code: 'ERR_FLATMIN_OPTION',
      message: '--from-python and --from-dir exclude each other; give one of them',
    });
  });
});

describe('the lock', () => {
  it('is taken from a process that has died, and given back', async () => {
    const path = join(root, 'setup.lock');
    // No process can have this id: it is above the kernel's limit.
    writeFileSync(path, JSON.stringify({ pid: 2 ** 30, host: hostname() }));
    expect(await withLock(path, listen(), () => Promise.resolve('done'))).toBe('done');
    expect(existsSync(path)).toBe(false);
  });

  it('is given back when the work fails', async () => {
    const path = join(root, 'setup.lock');
    await expect(withLock(path, listen(), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(existsSync(path)).toBe(false);
  });
});
