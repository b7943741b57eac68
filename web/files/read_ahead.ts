/**
 * Given files, read ahead by a thread of their own. A browser copies a file from one of its processes to
 * another: a stream does that at a third of the cost of slices. Streams are asynchronous and workers
 * are not, so the thread fills blocks in shared memory (`read_ahead_service.ts`) and workers copy from there.
 */

import { BlockTable } from "../../src/core/block_table.ts";
import { copierBetween, type CopyBytes } from "./memory_copy.ts";

/** Bytes of a block; the last one of a file is shorter. */
export const BLOCK_BYTES = 1 << 20;

/** Blocks in memory. Each of two runs is at most 64 ahead, and a worker holds one while it copies. */
export const SLOTS = 140;

/** Shorter reads that find nothing in memory fetch their own slice: headers, scales, sampled rows. */
const LEAST_BYTES = 64 << 10;

/** Time after which a thread asks again, and without any block after which it reads by itself. */
const ASK_MS = 200, GIVE_UP_MS = 5000;

/** Cells beside the table: how often blocks were filled, and whether streams have failed. */
export const CELL = Object.freeze({ filled: 0, failed: 1, count: 2 });

/** Memory that the reading thread shares with all others. */
export interface ReadAheadMemory {
  /** Shared. */
  readonly blocks: WebAssembly.Memory;
  /** Cells of a {@link BlockTable}. */
  readonly table: SharedArrayBuffer;
  readonly cells: SharedArrayBuffer;
}

/** One thread's way to the blocks. */
export interface ReadAheadLink {
  readonly memory: ReadAheadMemory;
  /** Takes a {@link BlockRequest}. */
  readonly port: MessagePort;
}

/** A block of a file. */
export interface FileBlock {
  readonly file: number;
  readonly block: number;
}

/** A thread waits for a block, or has just read from it: by the time this comes it may be gone. */
export interface BlockRequest extends FileBlock {
  readonly isRead: boolean;
}

/** Bytes of a page of WebAssembly. */
const PAGE_BYTES = 1 << 16;

/** Returns memory for blocks, all empty. */
export function createReadAhead(): ReadAheadMemory {
  const pages = SLOTS * BLOCK_BYTES / PAGE_BYTES;
  return {
    blocks: new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }),
    table: BlockTable.create(SLOTS),
    cells: new SharedArrayBuffer(4 * CELL.count),
  };
}

/** The reading end; one per thread. */
export class ReadAhead {
  readonly #memory: WebAssembly.Memory;
  readonly #blocks: Uint8Array;
  /** Faster ways to memories, by their bytes. */
  readonly #copiers = new Map<ArrayBufferLike, CopyBytes>();
  readonly #table: BlockTable;
  readonly #cells: Int32Array;
  readonly #port: MessagePort;
  #said: FileBlock = { file: -1, block: -1 };

  constructor({ memory, port }: ReadAheadLink) {
    this.#memory = memory.blocks;
    this.#blocks = new Uint8Array(memory.blocks.buffer);
    this.#table = new BlockTable(memory.table, () => {});
    this.#cells = new Int32Array(memory.cells);
    this.#port = port;
  }

  /** Views that are filled will lie in `memory`, which is shared. */
  expect(memory: WebAssembly.Memory): void {
    const copy = copierBetween(this.#memory, memory);
    if (copy !== null) this.#copiers.set(memory.buffer, copy);
  }

  /**
   * Fills `view` from `position` on, as far as blocks have it or come soon; returns how many bytes.
   * The rest is for the caller to read, who also learns there why it cannot be read.
   */
  read(file: number, view: Uint8Array, position: number): number {
    const canWait = view.length >= LEAST_BYTES;
    let done = 0;
    while (done < view.length) {
      const at = position + done;
      const rest = view.subarray(done);
      const count = this.#copy(file, rest, at) ?? (canWait ? this.#await(file, rest, at) : 0);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  /** Copies what a block has of `position`, nothing if the file ends before; null: it is not in memory. */
  #copy(file: number, view: Uint8Array, position: number): number | null {
    const block = Math.floor(position / BLOCK_BYTES);
    const pin = this.#table.pin({ file, block });
    if (pin === null) return null;
    const within = position - block * BLOCK_BYTES;
    const count = Math.max(0, Math.min(view.length, pin.length - within));
    const from = pin.slot * BLOCK_BYTES + within;
    const copy = this.#copiers.get(view.buffer);
    if (copy !== undefined) copy(view.byteOffset, from, count);
    else view.set(this.#blocks.subarray(from, from + count));
    this.#table.unpin(pin.slot, count);
    this.#say({ file, block });
    return count;
  }

  /** Copies from the block at `position` as soon as it has come; 0: it does not come. */
  #await(file: number, view: Uint8Array, position: number): number {
    const wanted = { file, block: Math.floor(position / BLOCK_BYTES) };
    let asked = -Infinity;
    for (let filled = -1, since = 0; filled < 0 || performance.now() - since < GIVE_UP_MS;) {
      const seen = Atomics.load(this.#cells, CELL.filled);
      if (Atomics.load(this.#cells, CELL.failed) !== 0) return 0;
      const count = this.#copy(file, view, position);
      if (count !== null) return count;
      if (seen !== filled) [filled, since] = [seen, performance.now()];
      if (performance.now() - asked >= ASK_MS) {
        asked = performance.now();
        this.#ask(wanted, false);
      }
      Atomics.wait(this.#cells, CELL.filled, seen, ASK_MS);
    }
    // Once is enough: all threads read by themselves from now on.
    Atomics.store(this.#cells, CELL.failed, 1);
    return 0;
  }

  /** The thread reads ahead of where others are. */
  #say(read: FileBlock): void {
    const { file, block } = this.#said;
    if (file !== read.file || block !== read.block) this.#ask(read, true);
  }

  #ask({ file, block }: FileBlock, isRead: boolean): void {
    this.#said = { file, block };
    this.#port.postMessage({ file, block, isRead } satisfies BlockRequest);
  }
}
