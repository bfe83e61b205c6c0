// What all scripts share: the clone's root, running a program, hashing files, a lock. Node's own modules alone.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The clone's root. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

/** A module of the compiled TypeScript, which bootstrap.mjs makes. */
export const importDist = (path) => import(pathToFileURL(join(root, 'dist', path)).href);

/** A line about progress: on stderr, since stdout belongs to the command that follows. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/** Runs a program in the root with its output on stderr; throws when it fails. */
export function run(command, args, env = process.env) {
  const { status, signal, error } = spawnSync(command, args, { cwd: root, env, stdio: ['ignore', 2, 2] });
  if (error !== undefined) throw new Error(`${command} cannot be run: ${error.message}`);
  if (status !== 0) throw new Error(`\`${[command, ...args].join(' ')}\` failed (${signal ?? `exit code ${status}`})`);
}

/** Runs a program in place of this script: same streams, same end. */
export function become(command, args, env = process.env, cwd = root) {
  const { status, error } = spawnSync(command, args, { cwd, env, stdio: 'inherit' });
  if (error !== undefined) say(`${command} cannot be run: ${error.message}`);
  process.exitCode = status ?? 1;
}

/** One hash over the contents of files and folders below the root. Times are not asked: git gives all files the same. */
export function hashFiles(paths, include = () => true) {
  const hash = createHash('sha256');
  for (const path of paths.flatMap((name) => filesBelow(name)).filter(include)) {
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(root, path)))
      .update('\0');
  }
  return hash.digest('hex');
}

function filesBelow(path) {
  if (!statSync(join(root, path)).isDirectory()) return [path];
  const names = readdirSync(join(root, path)).sort();
  return names.flatMap((name) => filesBelow(`${path}/${name}`));
}

/** Runs `work` alone among the processes of this machine that ask for the same lock. */
export async function withLock(path, work) {
  mkdirSync(dirname(path), { recursive: true });
  for (let told = false; !acquire(path); told = true) {
    if (ownerIsGone(path)) rmSync(path, { force: true });
    else if (!told) say(`another process prepares this clone (it holds ${path}); waiting for it`);
    await wait(100);
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function acquire(path) {
  try {
    const file = openSync(path, 'wx');
    writeSync(file, String(process.pid));
    closeSync(file);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function ownerIsGone(path) {
  try {
    const pid = Number(readFileSync(path, 'utf8'));
    if (pid > 0) process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}
