/**
 * Given files, read ahead by a thread of their own. A browser copies a file from one of its processes to
 * another: a stream does that at a third of the cost of slices. Streams are asynchronous and workers
 * are not, so the thread fills blocks in shared memory (`read_ahead_service.ts`) and workers copy from there.
 */

import { BlockTable } from "../../src/core/block_table.ts";

/** Bytes of a block; the last one of a file is shorter. */
export const BLOCK_BYTES = 1 << 20;

/** Blocks in memory. Each of two runs is at most 16 ahead, and a worker holds one while it copies. */
export const SLOTS = 44;

/** Shorter reads that find nothing in memory fetch their own slice: headers, scales, sampled rows. */
const LEAST_BYTES = 64 << 10;

/** Time after which a thread asks again, and without any block after which it reads by itself. */
const ASK_MS = 200, GIVE_UP_MS = 5000;

/** Cells beside the table: how often blocks were filled, and whether streams have failed. */
export const CELL = Object.freeze({ filled: 0, failed: 1, count: 2 });

/** Memory that the reading thread shares with all others. */
export interface ReadAheadMemory {
  readonly blocks: SharedArrayBuffer;
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

/** A thread is at this block of a file, or waits for it. */
export interface BlockRequest {
  readonly file: number;
  readonly block: number;
}

/** Returns memory for blocks, all empty. */
export function createReadAhead(): ReadAheadMemory {
  return {
    blocks: new SharedArrayBuffer(SLOTS * BLOCK_BYTES),
    table: BlockTable.create(SLOTS),
    cells: new SharedArrayBuffer(4 * CELL.count),
  };
}

/** The reading end; one per thread. */
export class ReadAhead {
  readonly #blocks: Uint8Array;
  readonly #table: BlockTable;
  readonly #cells: Int32Array;
  readonly #port: MessagePort;
  #said: BlockRequest = { file: -1, block: -1 };

  constructor({ memory, port }: ReadAheadLink) {
    this.#blocks = new Uint8Array(memory.blocks);
    this.#table = new BlockTable(memory.table, () => {});
    this.#cells = new Int32Array(memory.cells);
    this.#port = port;
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
    view.set(this.#blocks.subarray(from, from + count));
    this.#table.unpin(pin.slot, 0);
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
        this.#port.postMessage(this.#said = wanted);
      }
      Atomics.wait(this.#cells, CELL.filled, seen, ASK_MS);
    }
    // Once is enough: all threads read by themselves from now on.
    Atomics.store(this.#cells, CELL.failed, 1);
    return 0;
  }

  /** The thread reads ahead of where others are. */
  #say(request: BlockRequest): void {
    const { file, block } = this.#said;
    if (file === request.file && block === request.block) return;
    this.#port.postMessage(this.#said = request);
  }
}
