// How the native side is found and loaded: the order of places, what is refused before it is opened, and the one error
// of a machine without libtorch. What loads for real does so in a process of its own.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type * as generated from '../native/index.js';
import { fromNative } from '../src/errors.js';
import { findAddons } from '../src/native/addon.js';
import type { Binding } from '../src/native/binding.js';
import { hasNvidiaDriver } from '../src/native/driver.js';
import { findLibtorch, findNative, type Search } from '../src/native/find.js';
import { loadNative } from '../src/native/index.js';
import { inspectLibtorch } from '../src/native/libtorch.js';
import { packageRoot } from '../src/native/paths.js';
import { platformOf } from '../src/native/platform.js';
import { linux, release, writeLibtorch } from './support/libtorch.js';

let root: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'flatmin-loader-')));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

const found = (search: Partial<Search>): ReturnType<typeof findLibtorch> =>
  findLibtorch({ env: {}, version: release, device: 'cpu', python: () => undefined, ...search });

describe('finding libtorch', () => {
  it('prefers FLATMIN_LIBTORCH, then LIBTORCH, then the cache, then Python', () => {
    const folders = Object.fromEntries(
      ['named', 'libtorch', `cache/libtorch/${release}-cpu/torch`, 'site-packages/torch'].map((name) => [
        name,
        writeLibtorch(join(root, name)),
      ]),
    );
    const cache = { FLATMIN_CACHE: join(root, 'cache') };
    const torch = folders['site-packages/torch'] ?? '';
    const python = () => ({ command: 'python3', version: '3.12.0', hasPip: true, torch });
    const all = { ...cache, FLATMIN_LIBTORCH: folders.named, LIBTORCH: folders.libtorch };
    expect(found({ env: all, python }).source).toBe('FLATMIN_LIBTORCH');
    expect(found({ env: { ...cache, LIBTORCH: folders.libtorch }, python }).source).toBe('LIBTORCH');
    expect(found({ env: cache, python }).source).toBe('cache (cpu)');
    expect(found({ env: { FLATMIN_CACHE: join(root, 'empty') }, python })).toMatchObject({
      source: 'Python',
      libtorch: { root: torch },
    });
  });

  it('takes a CUDA libtorch for the CPU, but not the other way round', () => {
    const env = { FLATMIN_CACHE: join(root, 'cache') };
    writeLibtorch(join(root, 'cache', 'libtorch', `${release}-cpu`, 'torch'));
    expect(() => found({ env, device: 'cuda' })).toThrow(/npx flatmin setup --device cuda/);
    rmSync(join(root, 'cache'), { recursive: true });
    const libraries = ['libtorch_cpu.so', 'libtorch_cuda.so'];
    writeLibtorch(join(root, 'cache', 'libtorch', `${release}-cuda`, 'torch'), release, libraries);
    expect(found({ env }).source).toBe('cache (cuda)');
  });

  it('lists every place with its reason, and the command, when there is none', () => {
    const old = writeLibtorch(join(root, 'old'), '2.11.0');
    expect(() => found({ env: { LIBTORCH: old, FLATMIN_CACHE: root } })).toThrow(
      expect.objectContaining({
        code: 'ERR_FLATMIN_LIBTORCH',
        message: expect.stringMatching(
          /npx flatmin setup[\s\S]*FLATMIN_LIBTORCH: not set[\s\S]*LIBTORCH: .*libtorch 2\.11\.0, needed is 9\.9\.9[\s\S]*cache \(cpu\): .*does not exist[\s\S]*Python: no Python/,
        ),
      }),
    );
  });

  it('stops at a wrong FLATMIN_LIBTORCH', () => {
    const old = writeLibtorch(join(root, 'old'), '2.11.0');
    const good = writeLibtorch(join(root, 'good'));
    expect(() => found({ env: { FLATMIN_LIBTORCH: old, LIBTORCH: good } })).toThrow(
      expect.objectContaining({ code: 'ERR_FLATMIN_LIBTORCH_VERSION' }),
    );
    expect(() => found({ env: { FLATMIN_LIBTORCH: join(root, 'none'), LIBTORCH: good } })).toThrow(
      expect.objectContaining({ code: 'ERR_FLATMIN_LIBTORCH' }),
    );
  });
});

describe('inspecting a folder', () => {
  it('accepts the folder, its lib/, a set-up home and an unpacked archive', () => {
    const folder = writeLibtorch(join(root, 'home', 'torch'));
    const archive = writeLibtorch(join(root, 'archive', 'libtorch'));
    for (const named of [folder, join(folder, 'lib'), join(root, 'home')]) {
      expect(inspectLibtorch(named)).toMatchObject({ libtorch: { root: folder, version: release } });
    }
    expect(inspectLibtorch(join(root, 'archive'))).toMatchObject({ libtorch: { root: archive } });
  });

  it.each([
    ['build-version', '2.13.0+cpu\n'],
    ['version.py', "from typing import Optional\n\n__version__ = '2.13.0+cu130'\ndebug = False\n"],
    ['include/torch/headeronly/version.h', '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION \\\n  "2.13.0"\n'],
    ['include/torch/csrc/api/include/torch/version.h', '#define TORCH_VERSION "2.13.0"\n'],
  ])('reads the version from %s', (file, text) => {
    const folder = writeLibtorch(join(root, 'torch'));
    rmSync(join(folder, 'build-version'));
    expect(inspectLibtorch(folder)).toMatchObject({ problem: expect.stringContaining('does not tell its version') });
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), text);
    expect(inspectLibtorch(folder)).toMatchObject({ libtorch: { version: '2.13.0', hasCuda: false } });
  });
});

describe('finding the addon', () => {
  const platform = platformOf(linux);

  function writeFiles(folder: string, extra: Record<string, string> = {}): void {
    mkdirSync(folder, { recursive: true });
    const files = { [platform.addon]: '', [platform.preload]: '', ...extra };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  }

  it('takes native/ of a clone, with the libtorch release it was built against', () => {
    writeFiles(join(root, 'native'), { 'build.json': '{"libtorch":"2.11.0"}' });
    expect(findAddons(platform, root)).toEqual([
      {
        addon: join(root, 'native', 'flatmin.linux-x64-gnu.node'),
        preload: join(root, 'native', 'preload.linux-x64-gnu.node'),
        libtorch: '2.11.0',
      },
    ]);
  });

  it('takes the build whose libtorch is there, the usual one first', () => {
    writeFiles(join(root, 'native'), { 'build.json': `{"libtorch":"${release}"}` });
    writeFiles(join(root, 'native', 'torch-8.8.8'), { 'build.json': '{"libtorch":"8.8.8"}' });
    const other = writeLibtorch(join(root, 'other', 'torch'), '8.8.8', ['libtorch_cpu.so', 'libtorch_cuda.so']);
    const python = () => ({ command: 'python3', version: '3.12.0', hasPip: true, torch: other });
    const search = { env: { FLATMIN_CACHE: join(root, 'none') }, python, root };
    const found = findNative(platform, { ...search, device: 'auto' });
    expect(found).toMatchObject({ device: 'cuda', source: 'Python', files: { libtorch: '8.8.8' } });
    const usual = writeLibtorch(join(root, 'usual'));
    const env = { ...search.env, LIBTORCH: usual };
    expect(findNative(platform, { ...search, env, device: 'cpu' }).files.libtorch).toBe(release);
    expect(() => findNative(platform, { ...search, python: () => undefined, device: 'auto' })).toThrow(
      expect.objectContaining({ message: expect.stringContaining(`libtorch ${release} for the CPU was not found`) }),
    );
  });

  it('says how to build it in a clone and how to install it elsewhere', () => {
    expect(() => findAddons(platform, root)).toThrow(
      expect.objectContaining({
        code: 'ERR_FLATMIN_ADDON',
        message: expect.stringContaining('npm install --include=optional'),
      }),
    );
    mkdirSync(join(root, 'crates'));
    expect(() => findAddons(platform, root)).toThrow(/node scripts\/bootstrap\.mjs/);
  });
});

describe('errors of the native side', () => {
  it('become FlatminErrors with their code, and keep the original as cause', () => {
    const original = new Error('{"code":"ERR_FLATMIN_SHAPE","message":"found [1], expected [2]"}');
    const error = fromNative(original);
    expect(error).toMatchObject({
      name: 'FlatminError',
      code: 'ERR_FLATMIN_SHAPE',
      message: 'found [1], expected [2]',
    });
    expect(error.cause).toBe(original);
    expect(fromNative(error)).toBe(error);
  });

  it('are wrong options when N-API refused an argument, and internal when nobody knows them', () => {
    const refused = Object.assign(new Error('Failed to convert'), { code: 'NumberExpected' });
    expect(fromNative(refused).code).toBe('ERR_FLATMIN_OPTION');
    expect(fromNative(new Error('{"code":"EIO","message":"?"}')).code).toBe('ERR_FLATMIN_INTERNAL');
    expect(fromNative('odd')).toMatchObject({ code: 'ERR_FLATMIN_INTERNAL', message: 'odd' });
  });
});

describe('loading', () => {
  // Compiles only as long as the addon has everything that the facade's contract promises.
  const promised: (addon: typeof generated) => Binding = (addon) => addon;

  it('gives the addon, once, with all that the contract names', () => {
    const binding = promised(loadNative() as unknown as typeof generated);
    expect(loadNative()).toBe(binding);
    expect(binding.info()).toMatchObject({ torchVersion: expect.stringMatching(/^2\.\d+\.\d+/) });
    for (const name of ['Tensor', 'Dataset', 'Model', 'Optimizer', 'Run', 'Bench']) {
      expect(binding).toHaveProperty(`Binding${name}`);
    }
  });

  it('cannot change over to CUDA afterwards', () => {
    loadNative();
    expect(() => loadNative({ device: 'cuda' })).toThrow(expect.objectContaining({ code: 'ERR_FLATMIN_DEVICE' }));
  });

  /** The code and message that a first use ends with in a fresh process with these variables. */
  async function firstUse(env: Record<string, string>): Promise<string> {
    const script = `
      const { Tensor } = await import('flatmin');
      try { Tensor.from([1]); console.log('loaded'); } catch (error) { console.log(error.name, error.code, error.message); }
    `;
    const clean = { PATH: process.env.PATH ?? '', HOME: root, FLATMIN_PYTHON: '/nowhere/python3', ...env };
    const options = { cwd: packageRoot, env: clean };
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], options);
    return stdout;
  }

  it.skipIf(hasNvidiaDriver())(
    'for CUDA is refused where no driver is, instead of falling back in silence',
    async () => {
      const script = `
      const { loadNative } = await import('./dist/native/index.js');
      try { loadNative({ device: 'cuda' }); } catch (error) { console.log(error.code); }
    `;
      const options = { cwd: packageRoot };
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], options);
      expect(stdout.trim()).toBe('ERR_FLATMIN_DEVICE');
    },
  );

  it('without libtorch throws one error at first use, with the causes and the command', async () => {
    expect(await firstUse({})).toMatch(
      /^FlatminError ERR_FLATMIN_LIBTORCH libtorch 2\.13\.0[\s\S]*npx flatmin setup[\s\S]*\.cache\/flatmin/,
    );
  });

  it('refuses another release without opening it', async () => {
    const folder = writeLibtorch(join(root, 'old'), '2.11.0');
    expect(await firstUse({ FLATMIN_LIBTORCH: folder })).toMatch(
      /^FlatminError ERR_FLATMIN_LIBTORCH_VERSION .*2\.11\.0/,
    );
  });

  it('names the library that cannot be opened, with the reason', async () => {
    const folder = writeLibtorch(join(root, 'broken'), '2.13.0');
    expect(await firstUse({ FLATMIN_LIBTORCH: folder })).toMatch(
      /^FlatminError ERR_FLATMIN_LIBTORCH .*cannot be opened: .*libc10\.so: (file too short|invalid ELF header)/,
    );
  });
});
