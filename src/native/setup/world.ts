// What set-up sees of the machine; tests hand in a small made-up one.

import { hasNvidiaDriver } from '../driver.js';
import { type LibtorchTable, libtorchTable } from '../libtorch-table.js';
import type { Environment } from '../paths.js';
import { type Machine, thisMachine } from '../platform.js';
import { findPython, type Python } from '../python.js';
import { freeBytes } from './checks.js';

export interface SetupWorld {
  readonly env: Environment;
  readonly table: LibtorchTable;
  readonly machine: Machine;
  hasDriver(): boolean;
  python(): Python | undefined;
  freeBytes(path: string): Promise<number>;
}

/** The world as it is. */
export function thisWorld(): SetupWorld {
  return {
    env: process.env,
    table: libtorchTable,
    machine: thisMachine(),
    hasDriver: hasNvidiaDriver,
    python: () => findPython(process.env),
    freeBytes,
  };
}
