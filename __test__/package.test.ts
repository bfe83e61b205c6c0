// What is published fits together: names and files of the platform packages, no install scripts, nothing superfluous.
// That the packages install and train is `npm run test:package`.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { minimumNode } from '../src/native/diagnose.js';
import { packageRoot } from '../src/native/paths.js';
import { platformOf } from '../src/native/platform.js';
import { linux } from './support/libtorch.js';

interface Manifest {
  readonly name: string;
  readonly files: string[];
  readonly engines: { readonly node: string };
  readonly scripts?: Record<string, string>;
  readonly optionalDependencies?: object;
  readonly exports: Record<string, unknown>;
  readonly bin: Record<string, string>;
  readonly os: string[];
  readonly cpu: string[];
  readonly libc: string[];
}

const readManifest = (...path: string[]): Manifest =>
  JSON.parse(readFileSync(join(packageRoot, ...path, 'package.json'), 'utf8')) as Manifest;

describe('the main package', () => {
  const manifest = readManifest();

  it('has no install scripts, which package managers no longer run', () => {
    expect(Object.keys(manifest.scripts ?? {})).not.toEqual(
      expect.arrayContaining([expect.stringMatching(/install|prepare/)]),
    );
  });

  it('names no platform package in the clone, so that npm ci works before they are published', () => {
    expect(manifest.optionalDependencies).toBeUndefined();
  });

  it('asks for the Node.js that doctor asks for', () => {
    expect(manifest.engines.node).toBe(`>=${minimumNode.join('.')}`);
  });

  it('exports files that exist', () => {
    const entry = manifest.exports['.'] as { types: string; default: string };
    for (const file of [entry.types, entry.default, ...Object.values(manifest.bin)]) {
      expect(existsSync(join(packageRoot, file)), file).toBe(true);
    }
  });
});

describe('the platform package', () => {
  it('exists for the platform that the loader knows, under the names it looks for', () => {
    const platform = platformOf(linux);
    expect(readdirSync(join(packageRoot, 'npm'))).toEqual(['linux-x64-gnu']);
    const manifest = readManifest('npm', platform.key);
    expect(manifest.name).toBe(platform.packageName);
    expect(manifest.files).toEqual(expect.arrayContaining([platform.addon, platform.preload, 'build.json']));
    expect(manifest).toMatchObject({ os: ['linux'], cpu: ['x64'], libc: ['glibc'] });
  });
});
