// How long work tells what it is doing; the CLI prints it on stderr, the bootstrap script too, tests collect it.

/** Receives what set-up has to say. */
export interface Reporter {
  /** A line worth keeping. */
  note(line: string): void;
  /** The state of the moment; each replaces the one before, and it may be dropped. */
  progress(line: string): void;
}

/** Bytes as people read them: `527 MB`. */
export function megabytes(bytes: number): string {
  return bytes >= 1e10 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
