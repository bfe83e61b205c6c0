// Ctrl-C: the first one asks the work to stop cleanly, the second one ends the process at once.
import { EXIT } from './failure.js';

/** A listener for SIGINT and SIGTERM that is taken away by `dispose`. */
export interface Interrupt extends Disposable {
  /** True once the user has asked to stop. */
  readonly requested: boolean;
}

/** Calls `stop` at the first signal; a second signal exits with code 130 without waiting. */
export function onInterrupt(stop: () => void): Interrupt {
  let requested = false;
  const listener = () => {
    if (requested) process.exit(EXIT.interrupted);
    requested = true;
    process.stderr.write('\nstopping after this step; press Ctrl-C again to end at once\n');
    stop();
  };
  process.on('SIGINT', listener);
  process.on('SIGTERM', listener);
  return {
    get requested() {
      return requested;
    },
    [Symbol.dispose]() {
      process.off('SIGINT', listener);
      process.off('SIGTERM', listener);
    },
  };
}
