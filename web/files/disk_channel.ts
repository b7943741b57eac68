/**
 * A thread asks the one that owns the disk and waits. Requests, bytes and answers go through shared memory:
 * messages get lost. In Firefox a port that was handed over is connected by messages to the thread that has
 * it, and one that waits takes none; and some messages that hold shared memory do not arrive.
 */

import type { Disk, DiskAnswer, DiskDoor, DiskRequest } from "./disk.ts";
import { FileError } from "./random_access_file.ts";

/** Bytes for a request and its answer: a path, a state, names, or an error. */
const TEXT_BYTES = 1 << 16;

/** Bytes of a file that are carried at a time. */
const CARRIED_BYTES = 1 << 20;

/** Cells of the head. */
const CELL = { state: 0, length: 1 } as const;
const STATE = { idle: 0, asked: 1, done: 2, failed: 3 } as const;
const HEAD_BYTES = 8;

/** One thread's way to the disk, for both ends. */
export interface DiskLink {
  /** Head and text. */
  readonly talk: SharedArrayBuffer;
  readonly carried: SharedArrayBuffer;
  readonly bell: DiskBell;
}

/** Int32 `[1]`, the same for all links of a disk: it changes with every request. */
export type DiskBell = SharedArrayBuffer;

/** What stands in a link: a view is the bytes that are carried. */
type Written<R = DiskRequest> = R extends { readonly view: Uint8Array }
  ? Omit<R, "view"> & { readonly length: number }
  : R;

/** Returns the bell of a disk. */
export function createBell(): DiskBell {
  return new SharedArrayBuffer(4);
}

/** Returns a link for one thread. */
export function createLink(bell: DiskBell): DiskLink {
  return {
    talk: new SharedArrayBuffer(HEAD_BYTES + TEXT_BYTES),
    carried: new SharedArrayBuffer(CARRIED_BYTES),
    bell,
  };
}

/** Returns a door to the disk behind `link`; it blocks the calling thread until the answer is there. */
export function doorBehind({ talk, carried, bell }: DiskLink): DiskDoor {
  const cells = new Int32Array(talk, 0, 2);
  const text = new Uint8Array(talk, HEAD_BYTES);
  const bytes = new Uint8Array(carried);
  const ask = (request: Written): DiskAnswer => {
    cells[CELL.length] = putText(text, request);
    Atomics.store(cells, CELL.state, STATE.asked);
    ring(bell);
    while (Atomics.load(cells, CELL.state) === STATE.asked) {
      Atomics.wait(cells, CELL.state, STATE.asked);
    }
    const said = textOf(text, cells[CELL.length]!);
    if (cells[CELL.state] === STATE.done) return said as DiskAnswer;
    const { code, message } = said as FileError;
    throw new FileError(code, message);
  };
  return (request) => {
    if (request.op !== "read" && request.op !== "write") return ask(request);
    const { op, file, view, position } = request;
    let done = 0;
    do {
      const length = Math.min(CARRIED_BYTES, view.length - done);
      const part = view.subarray(done, done + length);
      if (op === "write") bytes.set(part);
      const answer = ask({ op, file, length, position: position + done });
      const moved = op === "write" ? length : answer as number;
      if (op === "read") part.set(bytes.subarray(0, moved));
      done += moved;
      if (moved < length) break;
    } while (done < view.length);
    return done;
  };
}

/** Answers the requests of links, one after the other, until it is closed. */
export class DiskService {
  readonly #disk: Disk;
  readonly #bell: Int32Array;
  readonly #links: DiskLink[] = [];
  #last: Promise<void> = Promise.resolve();
  #isClosed = false;
  /** Settles after {@link close}. */
  readonly ended: Promise<void>;

  constructor(disk: Disk, bell: DiskBell) {
    this.#disk = disk;
    this.#bell = new Int32Array(bell);
    this.ended = this.#serve();
  }

  /** Takes the requests of one more link, those that are there already too. */
  connect(link: DiskLink): void {
    this.#links.push(link);
    ring(this.#bell.buffer as DiskBell);
  }

  /** Everything that was asked so far is answered. */
  async settled(): Promise<void> {
    await this.#last;
  }

  /** Answers nothing more. */
  close(): void {
    this.#isClosed = true;
    ring(this.#bell.buffer as DiskBell);
  }

  async #serve(): Promise<void> {
    while (!this.#isClosed) {
      const seen = Atomics.load(this.#bell, 0);
      for (const link of this.#links) {
        if (Atomics.load(new Int32Array(link.talk, 0, 1), CELL.state) !== STATE.asked) continue;
        this.#last = this.#answer(link);
        await this.#last;
      }
      await rung(this.#bell, seen);
    }
  }

  async #answer({ talk, carried }: DiskLink): Promise<void> {
    const cells = new Int32Array(talk, 0, 2);
    const text = new Uint8Array(talk, HEAD_BYTES);
    let state: number = STATE.done;
    try {
      const written = textOf(text, cells[CELL.length]!) as Written;
      const request: DiskRequest = written.op === "read" || written.op === "write"
        ? { ...written, view: new Uint8Array(carried, 0, written.length) }
        : written;
      cells[CELL.length] = putText(text, await this.#disk.do(request));
    } catch (error) {
      const { message } = error as Error;
      const code = error instanceof FileError ? error.code : "EDISK";
      state = STATE.failed;
      cells[CELL.length] = putText(text, { code, message });
    }
    Atomics.store(cells, CELL.state, state);
    Atomics.notify(cells, CELL.state);
  }
}

/** Writes a value into shared memory; returns its length in bytes. */
function putText(text: Uint8Array, value: unknown): number {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  if (bytes.length > text.length) {
    throw new FileError("EDISK", "too long for the thread that writes");
  }
  text.set(bytes);
  return bytes.length;
}

function textOf(text: Uint8Array, length: number): unknown {
  // A copy: decoders do not take shared memory.
  return JSON.parse(new TextDecoder().decode(text.slice(0, length)));
}

function ring(bell: DiskBell): void {
  const cells = new Int32Array(bell);
  Atomics.add(cells, 0, 1);
  Atomics.notify(cells, 0);
}

/** How long a thread that cannot wait for memory and messages at a time waits for one of them. */
const LISTEN_MS = 20;

/** The types that Deno has lack it. */
type WaitAsync = (cells: Int32Array, index: number, value: number) =>
  | { readonly async: false }
  | { readonly async: true; readonly value: Promise<string> };

/** Returns once `bell` is not at `seen` any more. Messages to this thread are taken meanwhile. */
async function rung(bell: Int32Array, seen: number): Promise<void> {
  const { waitAsync } = Atomics as unknown as { readonly waitAsync?: WaitAsync };
  if (waitAsync !== undefined) {
    const wait = waitAsync(bell, 0, seen);
    if (wait.async) await wait.value;
    return;
  }
  // Firefox before 145.
  while (Atomics.load(bell, 0) === seen) {
    Atomics.wait(bell, 0, seen, LISTEN_MS);
    await messagesTaken();
  }
}

const turns = new MessageChannel();

/** Returns when this thread has taken the messages that wait for it. Timers are held up by browsers. */
function messagesTaken(): Promise<void> {
  return new Promise((resolve) => {
    turns.port1.onmessage = () => resolve();
    turns.port2.postMessage(null);
  });
}
