// Whether the process that trained a run is gone: known of processes here, told apart from later ones of the same number.

import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { processIsGone, thisProcess } from '../src/run-process.js';

const here = thisProcess();
const isGone = (changes: object) => processIsGone({ environment: { process: { ...here, ...changes } } });
const { pid: ended } = spawnSync(process.execPath, ['--version']);

it('a process that runs is there', () => {
  expect(here).toMatchObject({ pid: process.pid, started: expect.stringMatching(/^\d+$/) });
  expect(isGone({})).toBe(false);
});

it("one that has ended is gone, also when its number is another one's now", () => {
  expect(isGone({ pid: ended })).toBe(true);
  expect(isGone({ started: '1' })).toBe(true);
});

it('nothing is known of one of another host or container, and of a run that does not say', () => {
  expect(isGone({ pid: ended, host: 'elsewhere' })).toBe(false);
  expect(isGone({ pid: ended, namespace: 'pid:[1]' })).toBe(false);
  for (const config of [undefined, {}, { environment: null }, { environment: { process: null } }])
    expect(processIsGone(config)).toBe(false);
});
