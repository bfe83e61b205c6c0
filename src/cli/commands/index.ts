// All commands of the CLI, in the order of `flatmin --help`.
import type { CommandDefinition } from '../command.js';
import { benchLoopCommand, benchStepCommand, benchTrainCommand } from './bench.js';
import { compareCommand } from './compare.js';
import { dashboardCommand } from './dashboard.js';
import { downloadCommand } from './data.js';
import { demoCommand } from './demo.js';
import { evalCommand } from './eval.js';
import { figuresCommand } from './figures.js';
import { modelsCommand } from './models.js';
import { predictCommand } from './predict.js';
import { reportCommand } from './report.js';
import { doctorCommand, setupCommand } from './setup.js';
import { trainCommand } from './train.js';

export const commands: readonly CommandDefinition[] = [
  setupCommand,
  doctorCommand,
  demoCommand,
  trainCommand,
  compareCommand,
  evalCommand,
  predictCommand,
  modelsCommand,
  reportCommand,
  dashboardCommand,
  figuresCommand,
  downloadCommand,
  benchStepCommand,
  benchTrainCommand,
  benchLoopCommand,
];
