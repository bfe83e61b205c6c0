// Python as a helper: where an installed torch lies, and whether pip can be called. torch itself is never imported.

import { spawnSync } from 'node:child_process';
import type { Environment } from './paths.js';

/** A Python that answered. */
export interface Python {
  readonly command: string;
  readonly version: string;
  readonly hasPip: boolean;
  /** Folder of the installed package `torch`, if there is one. */
  readonly torch: string | null;
}

// The current folder is taken off the path, so that a file torch.py lying there is not mistaken for PyTorch.
const question = `
import importlib.util as u, json, os, platform, sys
sys.path = [p for p in sys.path if p and os.path.abspath(p) != os.getcwd()]
def folder(name):
    spec = u.find_spec(name)
    return os.path.dirname(spec.origin) if spec and spec.origin else None
print(json.dumps({"version": platform.python_version(), "hasPip": folder("pip") is not None, "torch": folder("torch")}))
`;

/** The first Python that runs: `FLATMIN_PYTHON`, else `python3`, else `python`. */
export function findPython(env: Environment): Python | undefined {
  const commands = env.FLATMIN_PYTHON ? [env.FLATMIN_PYTHON] : ['python3', 'python'];
  for (const command of commands) {
    const result = spawnSync(command, ['-c', question], { encoding: 'utf8', env: { ...env }, timeout: 20_000 });
    const answer = result.status === 0 ? parse(result.stdout) : undefined;
    if (answer !== undefined) return { command, ...answer };
  }
  return undefined;
}

function parse(text: string): Omit<Python, 'command'> | undefined {
  try {
    return JSON.parse(text.trim().split('\n').at(-1) ?? '') as Omit<Python, 'command'>;
  } catch {
    return undefined;
  }
}
