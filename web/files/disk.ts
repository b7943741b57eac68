/**
 * The folder of the output as the program sees it: the partial file goes to an `OutputStore`, small files
 * (lock, journal, reports) stay in memory. One thread owns it, because a browser
 * gives the right to write a file to one thread only; the others ask it (`disk_channel.ts`).
 */

import { MemoryFile } from "./memory_file.ts";
import type { Later, OutputStore, StoreResult } from "./output_store.ts";
import { FileError } from "./random_access_file.ts";

/** Requests. Paths are absolute; `file` is what `open` returned. */
export type DiskRequest =
  | { readonly op: "open"; readonly path: string; readonly flags: string }
  | { readonly op: "stat"; readonly path: string }
  | { readonly op: "size"; readonly file: number }
  /** Whether it is the output, not one of the small files: 1 or 0. */
  | { readonly op: "isOutput"; readonly file: number }
  | {
    readonly op: "read";
    readonly file: number;
    readonly view: Uint8Array;
    readonly position: number;
  }
  | {
    readonly op: "write";
    readonly file: number;
    readonly view: Uint8Array;
    readonly position: number;
  }
  | { readonly op: "truncate"; readonly file: number; readonly size: number }
  | { readonly op: "flush"; readonly file: number }
  | { readonly op: "rename"; readonly from: string; readonly to: string }
  | { readonly op: "remove"; readonly path: string }
  | { readonly op: "touch"; readonly path: string; readonly timeMs: number }
  | { readonly op: "list" };

/** State of a file. */
export interface DiskStat {
  readonly size: number;
  readonly timeMs: number;
  readonly file: number;
}

/** Answers: by kind of request a number, a state, names, or nothing. */
export type DiskAnswer = number | DiskStat | readonly string[] | null;

/** Answers requests: here, or in the thread that owns the disk. */
export type DiskDoor = (request: DiskRequest) => DiskAnswer;

/** The ending of the name under which an output is written. */
const PARTIAL = ".partial";

interface Entry {
  readonly file: number;
  readonly content: MemoryFile | OutputStore;
  timeMs: number;
}

/** The files of one conversion. */
export class Disk {
  readonly #store: OutputStore;
  readonly #entries = new Map<string, Entry>();
  readonly #byNumber: Entry[] = [];

  constructor(store: OutputStore) {
    this.#store = store;
  }

  /** Carries out a request; at once if the store does. */
  do(request: DiskRequest): Later<DiskAnswer> {
    switch (request.op) {
      case "open":
        return this.#open(request.path, request.flags);
      case "stat":
        return this.#stat(request.path);
      case "size":
        return this.#of(request.file).content.size;
      case "isOutput":
        return Number(this.#of(request.file).content === this.#store);
      case "read":
        return this.#of(request.file).content.read(request.view, request.position);
      case "write":
        return nothing(this.#changed(request.file).content.write(request.view, request.position));
      case "truncate":
        return nothing(this.#changed(request.file).content.truncate(request.size));
      case "flush":
        return nothing(this.#of(request.file).content.flush());
      case "rename":
        return this.#rename(request.from, request.to);
      case "remove":
        return this.#remove(request.path);
      case "touch":
        this.#named(request.path).timeMs = request.timeMs;
        return null;
      case "list":
        return [...this.#entries.keys()];
    }
  }

  /** Result of the output. */
  result(): Promise<StoreResult> {
    return this.#store.result();
  }

  /** Removes the output, whatever there is of it. */
  async discard(): Promise<void> {
    await this.#store.discard();
  }

  #open(path: string, flags: string): number {
    const existing = this.#entries.get(path);
    if (existing !== undefined) {
      if (flags.includes("x")) throw new FileError("EEXIST");
      if (!flags.startsWith("w")) return existing.file;
    } else if (flags.startsWith("r")) throw new FileError("ENOENT");
    const content = path.endsWith(PARTIAL) ? this.#takeStore() : new MemoryFile();
    const entry: Entry = { file: this.#byNumber.length, content, timeMs: Date.now() };
    this.#byNumber.push(entry);
    this.#entries.set(path, entry);
    return entry.file;
  }

  #takeStore(): OutputStore {
    if ([...this.#entries.values()].some(({ content }) => content === this.#store)) {
      throw new FileError(
        "EMFILE",
        "a browser writes one file at a time: shards are for the program",
      );
    }
    return this.#store;
  }

  #stat(path: string): DiskStat | null {
    const entry = this.#entries.get(path);
    if (entry === undefined) return null;
    return { size: entry.content.size, timeMs: entry.timeMs, file: entry.file };
  }

  #rename(from: string, to: string): Later<null> {
    const entry = this.#named(from);
    const move = () => {
      this.#entries.delete(from);
      this.#entries.set(to, entry);
      return null;
    };
    if (entry.content !== this.#store || to.endsWith(PARTIAL)) return move();
    // The name is what makes an output complete.
    const done = this.#store.complete();
    return done instanceof Promise ? done.then(move) : move();
  }

  #remove(path: string): Later<null> {
    const { content } = this.#named(path);
    this.#entries.delete(path);
    return content === this.#store ? nothing(this.#store.discard()) : null;
  }

  #named(path: string): Entry {
    const entry = this.#entries.get(path);
    if (entry === undefined) throw new FileError("ENOENT");
    return entry;
  }

  #of(file: number): Entry {
    return this.#byNumber[file]!;
  }

  #changed(file: number): Entry {
    const entry = this.#of(file);
    entry.timeMs = Date.now();
    return entry;
  }
}

function nothing(done: Later<void>): Later<null> {
  return done instanceof Promise ? done.then(() => null) : null;
}

/** Returns a door to a disk in the same thread, whose store does everything at once. */
export function doorOf(disk: Disk): DiskDoor {
  return (request) => {
    const answer = disk.do(request);
    // Removing an output takes time; no caller waits for it.
    if (!(answer instanceof Promise)) return answer;
    if (request.op === "remove") return null;
    throw new FileError("ENOSYS", "this place cannot be written without a thread of its own");
  };
}
