// `npm run test:package`: packs the packages as they are published, installs the tarballs in an empty folder and uses them
// there as a stranger would: an ESM script that trains, a CommonJS script, the command line.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { say } from './lib/base.mjs';
import { stagePackages } from './stage-packages.mjs';

const trainScript = `
import { ASAM, datasets, models, SGD, Trainer } from 'flatmin';

const [train, validation] = datasets.digits().split([0.8, 0.2], { seed: 1 });
const model = models.demo();
const optimizer = new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9 }), { rho: 1 });
const history = await new Trainer({ model, optimizer, train, validation, epochs: 1, batchSize: 64 }).fit();
console.log(JSON.stringify(history.epochs.at(-1)));
`;

const requireScript = `
const { models, FlatminError } = require('flatmin');
const model = models.demo();
if (!(model.summary().parameters > 0)) throw new Error('a model without parameters');
try {
  models.resnet20({ numClasses: -1 });
  throw new Error('a wrong option was accepted');
} catch (error) {
  if (!(error instanceof FlatminError) || error.code !== 'ERR_FLATMIN_OPTION') throw error;
}
console.log('required');
`;

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'flatmin-package-'));
  try {
    const staged = await stagePackages(join(folder, 'staged'), { cuda: false });
    const tarballs = staged.map((path) => pack(path, folder));
    const project = join(folder, 'project');
    mkdirSync(project);
    writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
    step('install', project, 'npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...tarballs]);
    useAsModule(project);
    useFromCommandLine(project);
    say('the packages work');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function pack(path, destination) {
  const output = step('pack', path, 'npm', ['pack', '--json', '--pack-destination', destination]);
  const [{ filename, size, unpackedSize }] = JSON.parse(output);
  say(`  ${filename}: ${(size / 1e6).toFixed(2)} MB, unpacked ${(unpackedSize / 1e6).toFixed(2)} MB`);
  return join(destination, filename);
}

function useAsModule(project) {
  writeFileSync(join(project, 'train.mjs'), trainScript);
  writeFileSync(join(project, 'require.cjs'), requireScript);
  const epoch = JSON.parse(step('train from an ESM script', project, process.execPath, ['train.mjs']));
  // One epoch on the digits gets far beyond guessing (0.1); anything less means that the packed code does not train.
  expect(epoch.validation.accuracy > 0.3, `validation accuracy after one epoch is ${epoch.validation.accuracy}`);
  const required = step('require from a CommonJS script', project, process.execPath, ['require.cjs']);
  expect(required.trim() === 'required', `the CommonJS script printed ${required}`);
}

function useFromCommandLine(project) {
  const flatmin = join(project, 'node_modules', '.bin', 'flatmin');
  const report = JSON.parse(step('flatmin doctor', project, flatmin, ['doctor', '--json']));
  expect(report.ok === true, `doctor found: ${JSON.stringify(report)}`);
  const models = JSON.parse(step('flatmin models', project, flatmin, ['models', '--json']));
  expect(
    models.some((model) => model.name === 'resnet20'),
    'flatmin models does not know resnet20',
  );
}

/** Runs a program in `cwd` with this clone out of sight; returns its stdout, throws when it does not end well. */
function step(name, cwd, command, args) {
  say(`${name}...`);
  const { NODE_PATH: _, ...env } = process.env;
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    timeout: 300_000,
  });
  if (status === 0) return stdout;
  throw new Error(`${name} failed (${error?.message ?? signal ?? `exit code ${status}`})\n${stdout}\n${stderr}`);
}

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

main().catch((error) => {
  say(error.message);
  process.exitCode = 1;
});
