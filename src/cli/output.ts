// Where a command writes: results on stdout (JSON and nothing else under --json), everything about progress on stderr.

/** The two streams of a command and the way it was asked to write to them. */
export class Output {
  readonly json: boolean;
  /** True when stderr is a terminal that can redraw a line. */
  readonly live: boolean;
  #liveLine = false;

  constructor(json: boolean) {
    this.json = json;
    this.live = process.stderr.isTTY === true && process.env.TERM !== 'dumb';
  }

  /** A line of text for people on stdout; nothing under --json. */
  text(line = ''): void {
    if (this.json) return;
    this.#clear();
    process.stdout.write(`${line}\n`);
  }

  /** One JSON value on a line of its own on stdout, only under --json. */
  event(value: object): void {
    if (!this.json) return;
    this.#clear();
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** The command's whole JSON document, only under --json. */
  document(value: object): void {
    if (this.json) process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }

  /** A line on stderr that people should see even when stdout is read by a program. */
  note(line: string): void {
    this.#clear();
    process.stderr.write(`${line}\n`);
  }

  /** Redraws the live line; nothing when stderr is not a terminal. */
  progress(line: string): void {
    if (!this.live) return;
    const width = process.stderr.columns ?? 80;
    process.stderr.write(`\r\u001b[2K${line.length >= width ? line.slice(0, width - 1) : line}`);
    this.#liveLine = true;
  }

  /** Wipes the live line, so that the shell's prompt starts clean. */
  done(): void {
    this.#clear();
  }

  #clear(): void {
    if (!this.#liveLine) return;
    process.stderr.write('\r\u001b[2K');
    this.#liveLine = false;
  }
}
