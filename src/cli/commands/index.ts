// All commands of the CLI, in the order of `flatmin --help`.
import type { CommandDefinition } from '../command.js';
import { benchDataCommand, benchLoopCommand, benchStepCommand, benchTrainCommand } from './bench.js';
import { compareCommand } from './compare.js';
import { dashboardCommand } from './dashboard.js';
import { downloadCommand, inspectCommand, packCommand, previewCommand, verifyCommand } from './data.js';
import { demoCommand } from './demo.js';
import { evalCommand } from './eval.js';
import { exportCommand } from './export.js';
import { figuresCommand } from './figures.js';
import { hessianCommand } from './hessian.js';
import { landscapeCommand } from './landscape.js';
import { modelsCommand } from './models.js';
import { predictCommand } from './predict.js';
import { reportCommand } from './report.js';
import { doctorCommand, setupCommand } from './setup.js';
import { sharpnessCommand } from './sharpness.js';
import { studyCommand } from './study.js';
import { trainCommand } from './train.js';

export const commands: readonly CommandDefinition[] = [
  setupCommand,
  doctorCommand,
  demoCommand,
  trainCommand,
  compareCommand,
  evalCommand,
  predictCommand,
  exportCommand,
  sharpnessCommand,
  hessianCommand,
  landscapeCommand,
  studyCommand,
  modelsCommand,
  reportCommand,
  dashboardCommand,
  figuresCommand,
  downloadCommand,
  inspectCommand,
  packCommand,
  verifyCommand,
  previewCommand,
  benchStepCommand,
  benchTrainCommand,
  benchLoopCommand,
  benchDataCommand,
];
