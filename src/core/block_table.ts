/**
 * Table of the blocks of files that lie in shared memory, itself in shared memory: a thread that reads them
 * asks nobody. A thread that holds a block has pinned it; one without pins that nobody wants any more is
 * taken back by the thread that fetches, which alone fills slots.
 */

/** Int32 cells of a slot. `pins` is `CLOSED` while the slot is empty, or filled. */
const CELL = Object.freeze({ file: 0, block: 1, length: 2, wanted: 3, pins: 4 });
const CELLS = 5;

const CLOSED = -1;

/** Bytes of a file, in the order of the file: block 0 begins it. */
export interface BlockName {
  readonly file: number;
  readonly block: number;
}

/** A block that this thread has pinned. */
export interface Pin {
  readonly slot: number;
  /** Its bytes: fewer if the file ends. */
  readonly length: number;
}

/** The slots of a memory; every thread makes its own over the same cells. */
export class BlockTable {
  readonly #cells: Int32Array;
  readonly #slots: number;
  readonly #onIdle: () => void;

  /** @param onIdle called when this thread was the last to need a block, so that it can be taken back. */
  constructor(cells: SharedArrayBuffer, onIdle: () => void) {
    this.#cells = new Int32Array(cells);
    this.#onIdle = onIdle;
    this.#slots = this.#cells.length / CELLS;
  }

  /** Returns the cells of a table, all slots closed. */
  static create(slots: number): SharedArrayBuffer {
    const cells = new Int32Array(new SharedArrayBuffer(4 * CELLS * slots));
    for (let slot = 0; slot < slots; slot++) cells[slot * CELLS + CELL.pins] = CLOSED;
    return cells.buffer as SharedArrayBuffer;
  }

  /** Opens a slot that has been filled. `wanted`: how many bytes of it will be read. */
  open(slot: number, { file, block }: BlockName, length: number, wanted: number): void {
    const at = slot * CELLS;
    this.#cells.set([file, block, length, wanted], at);
    Atomics.store(this.#cells, at + CELL.pins, 0);
  }

  /** Holds a block where it lies in memory; null if it does not. */
  pin({ file, block }: BlockName): Pin | null {
    for (let slot = 0; slot < this.#slots; slot++) {
      if (!this.#is(slot, file, block) || !this.#raisePins(slot)) continue;
      // Another block may have come there before the pin held it.
      if (this.#is(slot, file, block)) {
        return { slot, length: this.#cells[slot * CELLS + CELL.length]! };
      }
      this.unpin(slot, 0);
    }
    return null;
  }

  /** Lets go of a block of which `read` bytes were read. */
  unpin(slot: number, read: number): void {
    const at = slot * CELLS;
    const wanted = Atomics.sub(this.#cells, at + CELL.wanted, read) - read;
    if (Atomics.sub(this.#cells, at + CELL.pins, 1) === 1 && wanted <= 0) this.#onIdle();
  }

  /** More bytes of an open slot will be read. */
  want(slot: number, bytes: number): void {
    Atomics.add(this.#cells, slot * CELLS + CELL.wanted, bytes);
  }

  /** Nobody will read what is in an open slot. */
  forget(slot: number): void {
    Atomics.store(this.#cells, slot * CELLS + CELL.wanted, 0);
  }

  /** Whether all bytes of an open slot that were wanted have been read. */
  isRead(slot: number): boolean {
    return Atomics.load(this.#cells, slot * CELLS + CELL.wanted) <= 0;
  }

  /** Closes an open slot unless it is pinned or wanted; returns whether it did. */
  close(slot: number): boolean {
    const at = slot * CELLS;
    if (Atomics.load(this.#cells, at + CELL.wanted) > 0) return false;
    return Atomics.compareExchange(this.#cells, at + CELL.pins, 0, CLOSED) === 0;
  }

  #is(slot: number, file: number, block: number): boolean {
    const at = slot * CELLS;
    return Atomics.load(this.#cells, at + CELL.block) === block &&
      Atomics.load(this.#cells, at + CELL.file) === file;
  }

  #raisePins(slot: number): boolean {
    const at = slot * CELLS + CELL.pins;
    for (;;) {
      const pins = Atomics.load(this.#cells, at);
      if (pins === CLOSED) return false;
      if (Atomics.compareExchange(this.#cells, at, pins, pins + 1) === pins) return true;
    }
  }
}
