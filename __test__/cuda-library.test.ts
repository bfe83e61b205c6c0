import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
// @ts-expect-error: the scripts are plain JavaScript.
import { architectures } from '../scripts/lib/fatbin.mjs';
import { temporaryFolder } from './support/folder.js';

const folder = temporaryFolder('fatbin');

/** A fat binary with an entry of 16 bytes for each (kind, architecture); kind 1 is PTX, 2 machine code. */
function fatBinary(...parts: [number, number][]): Buffer {
  const entries = parts.map(([kind, architecture]) => {
    const entry = Buffer.alloc(64 + 16);
    entry.writeUInt16LE(kind, 0);
    entry.writeUInt32LE(64, 4);
    entry.writeBigUInt64LE(16n, 8);
    entry.writeUInt32LE(architecture, 28);
    return entry;
  });
  const header = Buffer.alloc(16);
  header.writeUInt32LE(0xba55ed50, 0);
  header.writeUInt16LE(16, 6);
  header.writeBigUInt64LE(BigInt(80 * parts.length), 8);
  return Buffer.concat([header, ...entries]);
}

describe('the CUDA library', () => {
  it('is read for the GPUs that it has code for', () => {
    const path = join(folder, 'library.so');
    const stray = Buffer.from([0, 0, 0, 0, 0x50, 0xed, 0x55, 0xba]);
    writeFileSync(path, Buffer.concat([stray, fatBinary([2, 80], [2, 90], [1, 90]), fatBinary([2, 90])]));
    expect(architectures(path)).toEqual({ sm_80: 1, sm_90: 2, compute_90: 1 });
  });

  it.skip('builds for both torch releases, opens beside libtorch_cuda and equals its twins: npm run test:cuda', () => {});
});
