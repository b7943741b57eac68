/**
 * Synchronous reads of files that another thread fetches. Workers compute in WebAssembly memory and read by
 * position without awaiting; so they copy what is in memory already, by the table of blocks, and for the
 * rest leave a request in shared memory, wait on a cell, and copy the answer: from the mailbox, or from a
 * block that has been pinned for them. The thread that fetches is busy, and slow to wake if there are
 * more threads than cores: who finds a block does not wait for it.
 * Plain data: a channel crosses to any worker by structured clone.
 */

import {
  CORE_ERRORS,
  type ErrorClass,
  type PlainError,
  plainError,
  restoredError,
} from "../core/plain_error.ts";
import { BlockTable } from "../core/block_table.ts";
import { RedirectError } from "./redirects.ts";
import { RemoteError } from "./remote_error.ts";
import { DEFAULT_SIZES, slotsOf, storeBytes, type StoreSizes } from "./store_sizes.ts";

/** Requests that may be open at a time: one per thread. */
const MAILBOXES = 96;

/** Most bytes of an answer in the mailbox itself; the memory behind an unused mailbox is never touched. */
const MAILBOX_BYTES = 256 << 10;

/** Int32 cells before the mailboxes: the bell counts requests, `dead` says that nobody answers any more. */
const GLOBAL = Object.freeze({ bell: 0, dead: 1, cells: 16 });

/** Int32 cells of a mailbox. Positions and lengths are below 2^53, in two cells of 26 and 27 bits. */
const CELL = Object.freeze({ owner: 0, state: 1, kind: 2, file: 3, high: 4, low: 5, length: 6 });
const CELLS = 16;

/** `lent`: the answer lies in a block, pinned for who asked. */
const STATE = Object.freeze({ idle: 0, asked: 1, taken: 2, done: 3, failed: 4, lent: 5 });
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

/** Memory that threads share. */
export interface RemoteChannel {
  /** Identifies the channel, also across threads. */
  readonly id: string;
  /** The mailboxes. */
  readonly memory: SharedArrayBuffer;
  /** Blocks of the files that were fetched, {@link storeBytes}. */
  readonly blocks: SharedArrayBuffer;
  /** Which they are: the cells of a {@link BlockTable}. */
  readonly table: SharedArrayBuffer;
  /** Sizes of what lies there. */
  readonly sizes: StoreSizes;
}

/** A file of a model on a server, as a path is one of a local file. */
export interface RemotePath {
  /** For messages, without secrets. */
  readonly name: string;
  /** Its number in the channel. */
  readonly file: number;
  /** Its size. */
  readonly bytes: number;
  /** Mark that changes with the file: ETag, or date. */
  readonly stamp: string;
  /** The channel through which it is read. */
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

/** How many bytes there are: in the mailbox, or from `offsetBytes` of the blocks on, in a slot that is pinned. */
export type ReadAnswer =
  | { readonly kind: "copied"; readonly length: number }
  | {
    readonly kind: "lent";
    readonly length: number;
    readonly offsetBytes: number;
  };

/** The other end of a channel. */
export interface ChannelServer {
  /** Returns the first of the wanted bytes, one or more. */
  read(wanted: Wanted): Promise<ReadAnswer>;
  /** Announces what will be read, in this order; `more` adds to the list. */
  schedule(ranges: readonly FileRange[], more: boolean): void;
  /** Announces that reads from now on will be repeated. */
  keep(): void;
  /** Takes back blocks that nobody needs any more. */
  tidy(): void;
}

/** Returns a new channel with room for the blocks of a store. */
export function createChannel(sizes: StoreSizes = DEFAULT_SIZES): RemoteChannel {
  return {
    id: crypto.randomUUID(),
    memory: new SharedArrayBuffer(DATA_OFFSET + MAILBOXES * MAILBOX_BYTES),
    blocks: new SharedArrayBuffer(storeBytes(sizes)),
    table: BlockTable.create(slotsOf(sizes)),
    sizes,
  };
}

/** Ends all waits, now and later: nobody answers any more. */
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
  readonly #table: BlockTable;
  readonly #blockBytes: number;
  readonly #base: number;
  readonly #shouldStop: () => boolean;

  /**
   * @param shouldStop asked while waiting; a read fails once it says true.
   * @throws RangeError if all mailboxes are in use.
   */
  constructor(
    { memory, blocks, table, sizes }: RemoteChannel,
    { shouldStop = () => false }: { shouldStop?: () => boolean } = {},
  ) {
    this.#cells = new Int32Array(memory);
    this.#blocks = new Uint8Array(blocks);
    this.#table = new BlockTable(table, () => this.#ring());
    this.#blockBytes = sizes.blockBytes;
    this.#shouldStop = shouldStop;
    const box = claim(this.#cells);
    this.#base = GLOBAL.cells + box * CELLS;
    this.#returnLoan(); // who had the mailbox before may have left without copying
    this.#data = new Uint8Array(memory, DATA_OFFSET + box * MAILBOX_BYTES, MAILBOX_BYTES);
  }

  /**
   * Fills `view` with the bytes of a file from `positionBytes` on; waits for them.
   *
   * @throws RemoteError, or another error of the thread that fetches; InterruptedRead if it shall stop.
   */
  read(file: number, view: Uint8Array, positionBytes: number): void {
    for (let done = 0; done < view.length;) {
      const position = positionBytes + done;
      const rest = view.subarray(done);
      done += this.#copyHeld(file, rest, position) || this.#copyAsked(file, rest, position);
    }
  }

  /** Copies what is there of the block at `position`; returns how many bytes, 0 if it is not in memory. */
  #copyHeld(file: number, view: Uint8Array, position: number): number {
    const block = Math.floor(position / this.#blockBytes);
    const within = position - block * this.#blockBytes;
    const pin = this.#table.pin({ file, block });
    if (pin === null) return 0;
    const length = Math.max(0, Math.min(view.length, pin.length - within));
    this.#copyFrom(pin.slot, view.subarray(0, length), within);
    return length;
  }

  /** Waits for the first bytes at `position`; returns how many were copied. */
  #copyAsked(file: number, view: Uint8Array, position: number): number {
    const length = Math.min(view.length, MAX_LENGTH);
    const state = this.#ask(KIND.read, { file, position, length });
    const got = this.#cells[this.#base + CELL.length]!;
    const first = view.subarray(0, got);
    if (state === STATE.lent) {
      const at = this.#cells[this.#base + CELL.low]!;
      const slot = Math.floor(at / this.#blockBytes);
      Atomics.store(this.#cells, this.#base + CELL.state, STATE.idle);
      this.#copyFrom(slot, first, at - slot * this.#blockBytes);
    } else first.set(this.#data.subarray(0, got));
    return got;
  }

  /** Copies from a block that is pinned, and lets go of it. */
  #copyFrom(slot: number, view: Uint8Array, within: number): void {
    const at = slot * this.#blockBytes + within;
    view.set(this.#blocks.subarray(at, at + view.length));
    this.#table.unpin(slot, view.length);
  }

  /** Lets go of a block that was pinned for this mailbox. */
  #returnLoan(): void {
    const { lent, idle } = STATE;
    const state = this.#base + CELL.state;
    if (Atomics.compareExchange(this.#cells, state, lent, idle) !== lent) return;
    const at = this.#cells[this.#base + CELL.low]!;
    this.#table.unpin(Math.floor(at / this.#blockBytes), 0);
  }

  /** Announces what will be read, in this order, in place of the list before. */
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

  /** Announces that reads from now on will be repeated. */
  keep(): void {
    this.#ask(KIND.keep, { file: 0, position: 0, length: 0 });
  }

  /** Gives the mailbox back. */
  close(): void {
    Atomics.store(this.#cells, this.#base + CELL.owner, 0);
  }

  #say(state: number): void {
    Atomics.store(this.#cells, this.#base + CELL.state, state);
    this.#ring();
  }

  #ring(): void {
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
        throw errorIn(this.#data.slice(0, cells[base + CELL.length]));
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
  while (Atomics.load(cells, GLOBAL.dead) === 0) {
    const bell = Atomics.load(cells, GLOBAL.bell);
    server.tidy();
    for (let box = 0; box < MAILBOXES; box++) {
      const state = GLOBAL.cells + box * CELLS + CELL.state;
      if (Atomics.compareExchange(cells, state, STATE.asked, STATE.taken) === STATE.asked) {
        // Not awaited: other threads are answered meanwhile. It never rejects.
        void answer(memory, box, server);
      }
    }
    const wait = Atomics.waitAsync(cells, GLOBAL.bell, bell);
    if (wait.async) await wait.value;
  }
}

async function answer(
  memory: SharedArrayBuffer,
  box: number,
  server: ChannelServer,
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
        outcome = STATE.lent;
      }
    } else if (kind === KIND.keep) {
      server.keep();
    } else {
      server.schedule(rangesIn(data, length), kind === KIND.scheduleMore);
    }
  } catch (error) {
    const bytes = bytesOfError(error);
    cells[base + CELL.length] = bytes.length;
    data.set(bytes);
    outcome = STATE.failed;
  }
  Atomics.store(cells, base + CELL.state, outcome);
  Atomics.notify(cells, base + CELL.state);
}

/** Errors that keep their class on the way. */
const ERRORS: Readonly<Record<string, ErrorClass>> = { ...CORE_ERRORS, RemoteError, RedirectError };

/** An error as bytes that fit into a mailbox: without causes if need be. */
function bytesOfError(error: unknown): Uint8Array {
  const encoded = (plain: PlainError) => new TextEncoder().encode(JSON.stringify(plain));
  const whole = encoded(plainError(error));
  if (whole.length <= MAILBOX_BYTES) return whole;
  const { name, message } = plainError(error);
  const short = message.slice(0, MAILBOX_BYTES / 16); // a character takes at most 6 bytes in JSON
  return encoded({ name, message: short, stack: null, fields: {}, cause: null });
}

function errorIn(bytes: Uint8Array): Error {
  return restoredError(JSON.parse(new TextDecoder().decode(bytes)), ERRORS);
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
    if (!isBusy && Atomics.compareExchange(cells, base + CELL.owner, 0, 1) === 0) return box;
  }
  throw new RangeError(
    `Cannot read from a server with more than ${MAILBOXES - 2} threads: use fewer --workers`,
  );
}
