// The programs that building needs, and how to get those that are missing. All are named at once, before anything long starts.

import { spawnSync } from 'node:child_process';
import { say } from './base.mjs';

const minimumNode = [20, 19];
const minimumRust = [1, 90];

/** Throws when this Node.js is too old for the package. */
export function checkNode() {
  if (atLeast(process.versions.node, minimumNode)) return;
  throw new Error(
    `Node.js ${process.versions.node} is too old, ${minimumNode.join('.')} or later is needed: https://nodejs.org/en/download`,
  );
}

/** Throws an error that names every missing tool with the way to get it. */
export function requireBuildTools() {
  const problems = [rustProblem(), compilerProblem()].filter((problem) => problem !== undefined);
  if (problems.length > 0)
    throw new Error(`The native addon cannot be built yet:\n${problems.map((line) => `  - ${line}`).join('\n')}`);
}

/** Python is the better way to libtorch, but not the only one. */
export function warnWithoutPython() {
  const python = process.env.FLATMIN_PYTHON || 'python3';
  if (output(python, ['-m', 'pip', '--version']) !== undefined) return;
  say(
    `${python} with pip was not found; PyTorch's own archive is tried instead. To use pip: sudo apt install python3 python3-pip ` +
      '(Debian, Ubuntu), sudo dnf install python3 python3-pip (Fedora, RHEL), or name another one with FLATMIN_PYTHON.',
  );
}

function rustProblem() {
  const how =
    'install Rust with rustup (https://rustup.rs): curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh';
  const version = output('cargo', ['--version'])?.split(' ')[1];
  if (version === undefined) return `cargo was not found: ${how}, then open a new shell`;
  if (atLeast(version, minimumRust)) return undefined;
  return `cargo ${version} is too old, ${minimumRust.join('.')} or later is needed: rustup update stable`;
}

function compilerProblem() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  if (candidates.some((name) => output(name, ['--version']) !== undefined)) return undefined;
  return `no C++ compiler was found (${candidates.join(', ')}): sudo apt install build-essential (Debian, Ubuntu), sudo dnf install gcc-c++ (Fedora, RHEL)`;
}

function output(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout : undefined;
}

function atLeast(version, [major, minor]) {
  const [foundMajor = 0, foundMinor = 0] = version.split('.').map(Number);
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}
