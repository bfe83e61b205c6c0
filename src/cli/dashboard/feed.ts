// Follows the files of a run folder, so that a run of this process, of another one and one that has ended are watched the
// same way. It looks at them only while somebody listens.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { RUN_FILES, readJson } from '../../run-folder.js';
import { processIsGone } from '../../run-process.js';

/** An event as it lies in a file: numbers that were not finite are null. */
export type StoredEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** What a listener gets: everything so far at first and after a restart, then what was added. */
export interface Update {
  readonly kind: 'all' | 'more';
  readonly events: readonly StoredEvent[];
  readonly steps: readonly StoredEvent[];
  /** When the run last wrote something, in milliseconds since 1970; null before it has. */
  readonly updated: number | null;
  /** The run has not ended, but the process that trained it has. */
  readonly cutOff: boolean;
}

export type Listener = (update: Update) => void;

/** The whole lines that have been added to a file since the last look. */
class Tail {
  readonly #path: string;
  #inode = 0;
  #offset = 0;
  #rest = Buffer.alloc(0);
  /** When the file was last written, in milliseconds since 1970. */
  updated: number | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** `restarted`: it is another file now, as after a resume, and `added` is all of it. */
  async look(): Promise<{ restarted: boolean; added: StoredEvent[] }> {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      file = await open(this.#path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { restarted: false, added: [] };
      throw error;
    }
    try {
      const { ino, size, mtimeMs } = await file.stat();
      const restarted = this.#inode !== 0 && (ino !== this.#inode || size < this.#offset);
      if (restarted) [this.#offset, this.#rest] = [0, Buffer.alloc(0)];
      this.#inode = ino;
      this.updated = mtimeMs;
      const bytes = Buffer.alloc(size - this.#offset);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, this.#offset);
      this.#offset += bytesRead;
      return { restarted, added: this.#lines(bytes.subarray(0, bytesRead)) };
    } finally {
      await file.close();
    }
  }

  /** Splits off whole lines; the start of a last one is kept for the next look. */
  #lines(bytes: Buffer): StoredEvent[] {
    const text = Buffer.concat([this.#rest, bytes]);
    const end = text.lastIndexOf('\n') + 1;
    this.#rest = text.subarray(end);
    const lines = text.toString('utf8', 0, end).split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as StoredEvent);
  }
}

const LOOK_MS = 300;

/** The events of a run folder, for any number of listeners. */
export class RunFeed {
  readonly #runDir: string;
  readonly #tails: readonly [events: Tail, steps: Tail];
  readonly #listeners = new Set<Listener>();
  readonly #onError: (error: unknown) => void;
  #events: StoredEvent[] = [];
  #steps: StoredEvent[] = [];
  /** config.json as it was when the run last started. */
  #config: unknown;
  #cutOff = false;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  /** @param onError Told when the files cannot be read. */
  constructor(runDir: string, onError: (error: unknown) => void) {
    this.#runDir = runDir;
    this.#tails = [new Tail(join(runDir, RUN_FILES.events)), new Tail(join(runDir, RUN_FILES.steps))];
    this.#onError = onError;
  }

  /** True once the run has ended, as far as was looked. */
  get ended(): boolean {
    return this.#events.at(-1)?.type === 'end';
  }

  /** Gives `listener` everything so far and what comes; the result ends that. */
  async listen(listener: Listener): Promise<() => void> {
    await this.look();
    listener(this.#update('all', this.#events, this.#steps));
    this.#listeners.add(listener);
    this.#timer ??= setInterval(() => void this.look(), LOOK_MS);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#pause();
    };
  }

  /** Looks at the files once; looks follow each other. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#lookOnce()).catch(this.#onError);
    return this.#looking;
  }

  /** No more looks and no more listeners. */
  close(): void {
    this.#listeners.clear();
    this.#pause();
  }

  async #lookOnce(): Promise<void> {
    // Before the files are read: what a process that is gone has written is all there.
    const gone = processIsGone(this.#config);
    const [events, steps] = await Promise.all(this.#tails.map((tail) => tail.look()));
    if (events === undefined || steps === undefined) return;
    const restarted = events.restarted || steps.restarted;
    // The other file of a resumed run is shortened, too, and so read from its start.
    this.#events = events.restarted ? events.added : [...this.#events, ...events.added];
    this.#steps = steps.restarted ? steps.added : [...this.#steps, ...steps.added];
    const started = events.added.some(({ type }) => type === 'start');
    if (started) this.#config = readJson(join(this.#runDir, RUN_FILES.config));
    const before = this.#cutOff;
    this.#cutOff = gone && !started && !this.ended;
    const news = events.added.length + steps.added.length > 0 || this.#cutOff !== before;
    if (restarted) this.#tell(this.#update('all', this.#events, this.#steps));
    else if (news) this.#tell(this.#update('more', events.added, steps.added));
  }

  #update(kind: Update['kind'], events: readonly StoredEvent[], steps: readonly StoredEvent[]): Update {
    const times = this.#tails.flatMap(({ updated }) => updated ?? []);
    const updated = times.length === 0 ? null : Math.max(...times);
    return { kind, events, steps, updated, cutOff: this.#cutOff };
  }

  #tell(update: Update): void {
    for (const listener of this.#listeners) listener(update);
  }

  #pause(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
