/**
 * Memory that is counted instead of given: functions that take arrays say beside their code, with the same
 * calls, what they take, and a plan learns the most that is taken at once before any of it is there.
 */

/** Every array starts at a multiple of this: a cache line, and more than any vector needs. */
export const ARRAY_ALIGNMENT = 64;

/** Returns the next multiple of the alignment. In f64: addresses beyond 2 GiB stay positive. */
export function alignUp(offset: number): number {
  return Math.ceil(offset / ARRAY_ALIGNMENT) * ARRAY_ALIGNMENT;
}

const NONE = {
  f32: new Float32Array(),
  f64: new Float64Array(),
  i8: new Int8Array(),
  u8: new Uint8Array(),
  u16: new Uint16Array(),
  u32: new Uint32Array(),
  i32: new Int32Array(),
};

/** Counts what is taken, as `Arena` gives it. The arrays that it returns are empty. */
export class CountedMemory {
  #top = 0;
  #peak = 0;

  /** Most bytes that were taken at once. */
  get peakBytes(): number {
    return this.#peak;
  }

  f32(count: number): Float32Array {
    return this.#take(4 * count, NONE.f32);
  }

  f64(count: number): Float64Array {
    return this.#take(8 * count, NONE.f64);
  }

  i8(count: number): Int8Array {
    return this.#take(count, NONE.i8);
  }

  u8(count: number): Uint8Array {
    return this.#take(count, NONE.u8);
  }

  u16(count: number): Uint16Array {
    return this.#take(2 * count, NONE.u16);
  }

  u32(count: number): Uint32Array {
    return this.#take(4 * count, NONE.u32);
  }

  i32(count: number): Int32Array {
    return this.#take(4 * count, NONE.i32);
  }

  mark(): number {
    return this.#top;
  }

  release(mark: number): void {
    this.#top = mark;
  }

  /** Counts what `plan` takes and then gives back. */
  within(plan: () => void): void {
    const mark = this.mark();
    plan();
    this.release(mark);
  }

  #take<T>(bytes: number, none: T): T {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new RangeError(`Cannot plan memory: ${bytes} is not a number of bytes`);
    }
    this.#top = alignUp(this.#top) + bytes;
    this.#peak = Math.max(this.#peak, this.#top);
    return none;
  }
}

/** Returns the most bytes that `plan` takes at once. */
export function bytesTaken(plan: (memory: CountedMemory) => void): number {
  const memory = new CountedMemory();
  plan(memory);
  return memory.peakBytes;
}
