/**
 * Synchronous reads of files that another thread fetches. Workers compute in WebAssembly memory and read by
 * position without awaiting; so they leave a request in shared memory, wait on a cell, and copy the answer:
 * from the mailbox, or from a block that is lent to them until they say something again.
 * Plain data: a channel crosses to any worker by structured clone.
 */

/** Requests that may be open at a time: one per thread. */
export const MAILBOXES = 96;

/** Most bytes of an answer in the mailbox itself; the memory behind an unused mailbox is never touched. */
export const MAILBOX_BYTES = 256 << 10;

/** Int32 cells before the mailboxes: the bell counts requests, `dead` says that nobody answers any more. */
const GLOBAL = Object.freeze({ bell: 0, dead: 1, cells: 16 });

/** Int32 cells of a mailbox. Positions and lengths are below 2^53, in two cells of 26 and 27 bits. */
const CELL = Object.freeze({ owner: 0, state: 1, kind: 2, file: 3, high: 4, low: 5, length: 6 });
const CELLS = 16;

/** `lent`: the answer lies in a block. `returned`: it was copied from there. */
const STATE = Object.freeze({
  idle: 0,
  asked: 1,
  taken: 2,
  done: 3,
  failed: 4,
  lent: 5,
  returned: 6,
});
const KIND = Object.freeze({ read: 0, schedule: 1, scheduleMore: 2, keep: 3 });

const LOW_BITS = 2 ** 26;

/** Most bytes that are asked for at a time. */
const MAX_LENGTH = 2 ** 30;

/** How long a waiting thread sleeps before it looks whether to stop. */
const LOOK_MS = 100;

const DATA_OFFSET = 4 * (GLOBAL.cells + MAILBOXES * CELLS);

/** Numbers per range of a schedule: file, begin, end. */
const RANGE_NUMBERS = 3;

/** Ranges that one request takes. */
const RANGES_AT_ONCE = Math.floor(MAILBOX_BYTES / (8 * RANGE_NUMBERS));

/** What threads share. */
export interface RemoteChannel {
  /** Tells channels apart, also across threads. */
  readonly id: string;
  /** The mailboxes. */
  readonly memory: SharedArrayBuffer;
  /** Where blocks of the files are that were fetched. */
  readonly blocks: SharedArrayBuffer;
}

/** A file of a model on a server, as a path is one of a local file. */
export interface RemotePath {
  /** For messages, without secrets. */
  readonly name: string;
  /** Its number in the channel. */
  readonly file: number;
  /** Its size. */
  readonly bytes: number;
  /** What changes when the file does: ETag, or date. */
  readonly stamp: string;
  /** What it is read through. */
  readonly channel: RemoteChannel;
}

/** Bytes `begin` to `end` of file number `file`. */
export interface FileRange {
  readonly file: number;
  readonly begin: number;
  readonly end: number;
}

/** A part of a file that a thread waits for. */
export interface Wanted {
  readonly file: number;
  readonly positionBytes: number;
  /** 1 or more. */
  readonly length: number;
  /** The mailbox. */
  readonly view: Uint8Array;
}

/** How many bytes there are: in the mailbox, or lent from `offsetBytes` of the blocks on. */
export type ReadAnswer =
  | { readonly kind: "copied"; readonly length: number }
  | {
    readonly kind: "lent";
    readonly length: number;
    readonly offsetBytes: number;
    /** Called when they have been copied. */
    release(): void;
  };

/** What a channel is answered by. */
export interface ChannelServer {
  /** Returns the first of the wanted bytes, one or more. */
  read(wanted: Wanted): Promise<ReadAnswer>;
  /** Tells what will be read, in this order; `more` adds to what was told. */
  schedule(ranges: readonly FileRange[], more: boolean): void;
  /** Tells that what is read from now on will be read again. */
  keep(): void;
}

/** Returns a new channel with room for `blockBytes` of blocks. */
export function createChannel(blockBytes: number): RemoteChannel {
  const memory = new SharedArrayBuffer(DATA_OFFSET + MAILBOXES * MAILBOX_BYTES);
  return { id: crypto.randomUUID(), memory, blocks: new SharedArrayBuffer(blockBytes) };
}

/** Tells all who wait, and who will, that nobody answers any more. */
export function killChannel({ memory }: RemoteChannel): void {
  const cells = new Int32Array(memory);
  Atomics.store(cells, GLOBAL.dead, 1);
  Atomics.notify(cells, GLOBAL.bell);
  for (let box = 0; box < MAILBOXES; box++) {
    Atomics.notify(cells, GLOBAL.cells + box * CELLS + CELL.state);
  }
}

/** The asking end of a channel; one per thread. Close it: there are {@link MAILBOXES}. */
export class ChannelClient {
  readonly #cells: Int32Array;
  readonly #data: Uint8Array;
  readonly #blocks: Uint8Array;
  readonly #base: number;
  readonly #shouldStop: () => boolean;

  /**
   * @param shouldStop asked while waiting; a read fails once it says true.
   * @throws RangeError where all mailboxes are in use.
   */
  constructor(
    { memory, blocks }: RemoteChannel,
    { shouldStop = () => false }: { shouldStop?: () => boolean } = {},
  ) {
    this.#cells = new Int32Array(memory);
    this.#blocks = new Uint8Array(blocks);
    this.#shouldStop = shouldStop;
    const box = claim(this.#cells);
    this.#base = GLOBAL.cells + box * CELLS;
    this.#data = new Uint8Array(memory, DATA_OFFSET + box * MAILBOX_BYTES, MAILBOX_BYTES);
  }

  /**
   * Fills `view` with the bytes of a file from `positionBytes` on; waits for them.
   *
   * @throws Error with what the other end says; InterruptedRead where it shall stop.
   */
  read(file: number, view: Uint8Array, positionBytes: number): void {
    for (let done = 0; done < view.length;) {
      const length = Math.min(view.length - done, MAX_LENGTH);
      const state = this.#ask(KIND.read, { file, position: positionBytes + done, length });
      const got = this.#cells[this.#base + CELL.length]!;
      if (state === STATE.lent) {
        const at = this.#cells[this.#base + CELL.low]!;
        view.set(this.#blocks.subarray(at, at + got), done);
        // No answer is waited for: what is asked next says it too.
        this.#say(STATE.returned);
      } else view.set(this.#data.subarray(0, got), done);
      done += got;
    }
  }

  /** Tells what will be read, in this order, instead of what was told before. */
  schedule(ranges: readonly FileRange[]): void {
    const numbers = new Float64Array(
      this.#data.buffer,
      this.#data.byteOffset,
      RANGES_AT_ONCE * RANGE_NUMBERS,
    );
    for (let first = 0; first === 0 || first < ranges.length; first += RANGES_AT_ONCE) {
      const part = ranges.slice(first, first + RANGES_AT_ONCE);
      numbers.set(part.flatMap(({ file, begin, end }) => [file, begin, end]));
      const kind = first === 0 ? KIND.schedule : KIND.scheduleMore;
      this.#ask(kind, { file: 0, position: 0, length: part.length });
    }
  }

  /** Tells that what is read from now on will be read again. */
  keep(): void {
    this.#ask(KIND.keep, { file: 0, position: 0, length: 0 });
  }

  /** Gives the mailbox back. */
  close(): void {
    Atomics.store(this.#cells, this.#base + CELL.owner, 0);
  }

  #say(state: number): void {
    Atomics.store(this.#cells, this.#base + CELL.state, state);
    Atomics.add(this.#cells, GLOBAL.bell, 1);
    Atomics.notify(this.#cells, GLOBAL.bell);
  }

  /** Asks, waits for the answer and returns its state. */
  #ask(
    kind: number,
    { file, position, length }: { file: number; position: number; length: number },
  ): number {
    const cells = this.#cells, base = this.#base, state = base + CELL.state;
    cells[base + CELL.kind] = kind;
    cells[base + CELL.file] = file;
    cells[base + CELL.high] = Math.floor(position / LOW_BITS);
    cells[base + CELL.low] = position % LOW_BITS;
    cells[base + CELL.length] = length;
    this.#say(STATE.asked);
    for (;;) {
      const now = Atomics.load(cells, state);
      if (now === STATE.done || now === STATE.lent) return now;
      if (now === STATE.failed) {
        throw new Error(
          new TextDecoder().decode(this.#data.slice(0, cells[base + CELL.length])),
        );
      }
      if (Atomics.load(cells, GLOBAL.dead) !== 0) {
        throw new Error("Cannot read from the server: the download has ended");
      }
      if (this.#shouldStop()) throw new InterruptedRead();
      Atomics.wait(cells, state, now, LOOK_MS);
    }
  }
}

/** A read was given up because the run stops. */
export class InterruptedRead extends Error {
  override readonly name = "InterruptedRead";
  constructor() {
    super("Cannot read: the run stops");
  }
}

/** Answers the requests of a channel until it is killed. Runs on the thread that fetches. */
export async function serveChannel(
  { memory }: RemoteChannel,
  server: ChannelServer,
): Promise<void> {
  const cells = new Int32Array(memory);
  const loans = new Loans();
  while (Atomics.load(cells, GLOBAL.dead) === 0) {
    const bell = Atomics.load(cells, GLOBAL.bell);
    for (let box = 0; box < MAILBOXES; box++) {
      const state = GLOBAL.cells + box * CELLS + CELL.state;
      if (
        Atomics.compareExchange(cells, state, STATE.returned, STATE.idle) === STATE.returned
      ) loans.end(box);
      if (Atomics.compareExchange(cells, state, STATE.asked, STATE.taken) === STATE.asked) {
        loans.end(box);
        // Not awaited: other threads are answered meanwhile. It never rejects.
        void answer(memory, box, { server, loans });
      }
    }
    const wait = Atomics.waitAsync(cells, GLOBAL.bell, bell);
    if (wait.async) await wait.value;
  }
}

async function answer(
  memory: SharedArrayBuffer,
  box: number,
  { server, loans }: { server: ChannelServer; loans: Loans },
): Promise<void> {
  const cells = new Int32Array(memory);
  const base = GLOBAL.cells + box * CELLS;
  const data = new Uint8Array(memory, DATA_OFFSET + box * MAILBOX_BYTES, MAILBOX_BYTES);
  const length = cells[base + CELL.length]!, kind = cells[base + CELL.kind]!;
  let outcome: number = STATE.done;
  try {
    if (kind === KIND.read) {
      const position = cells[base + CELL.high]! * LOW_BITS + cells[base + CELL.low]!;
      const wanted = {
        file: cells[base + CELL.file]!,
        positionBytes: position,
        length,
        view: data,
      };
      const found = await server.read(wanted);
      cells[base + CELL.length] = found.length;
      if (found.kind === "lent") {
        cells[base + CELL.low] = found.offsetBytes;
        loans.begin(box, found.release);
        outcome = STATE.lent;
      }
    } else if (kind === KIND.keep) {
      server.keep();
    } else {
      server.schedule(rangesIn(data, length), kind === KIND.scheduleMore);
    }
  } catch (error) {
    const text = new TextEncoder().encode(error instanceof Error ? error.message : String(error));
    cells[base + CELL.length] = Math.min(text.length, MAILBOX_BYTES);
    data.set(text.subarray(0, MAILBOX_BYTES));
    outcome = STATE.failed;
  }
  Atomics.store(cells, base + CELL.state, outcome);
  Atomics.notify(cells, base + CELL.state);
}

/** What mailboxes have been lent. */
class Loans {
  readonly #release = new Map<number, () => void>();

  begin(box: number, release: () => void): void {
    this.#release.set(box, release);
  }

  end(box: number): void {
    const release = this.#release.get(box);
    this.#release.delete(box);
    release?.();
  }
}

function rangesIn(data: Uint8Array, count: number): FileRange[] {
  const numbers = new Float64Array(data.buffer, data.byteOffset, count * RANGE_NUMBERS);
  return Array.from({ length: count }, (_, i) => ({
    file: numbers[RANGE_NUMBERS * i]!,
    begin: numbers[RANGE_NUMBERS * i + 1]!,
    end: numbers[RANGE_NUMBERS * i + 2]!,
  }));
}

/** Returns the number of a mailbox that is now this thread's. One is free again once its answer has come. */
function claim(cells: Int32Array): number {
  for (let box = 0; box < MAILBOXES; box++) {
    const base = GLOBAL.cells + box * CELLS;
    const isBusy = Atomics.load(cells, base + CELL.state) === STATE.taken ||
      Atomics.load(cells, base + CELL.state) === STATE.asked;
    if (isBusy || Atomics.compareExchange(cells, base + CELL.owner, 0, 1) !== 0) continue;
    // Who had it before may have left without copying what it was lent.
    Atomics.compareExchange(cells, base + CELL.state, STATE.lent, STATE.returned);
    return box;
  }
  throw new RangeError(
    `Cannot read from a server with more than ${MAILBOXES - 2} threads: use fewer --workers`,
  );
}
