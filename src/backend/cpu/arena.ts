/**
 * A stack of typed arrays in a region of WebAssembly memory. Buffers of a job are taken one after the
 * other and given back together: no free lists, no fragmentation, no garbage, a known peak.
 */

import { alignUp } from "../../core/counted_memory.ts";
import { MEMORY_MAX_BYTES, PAGE_BYTES } from "./instantiate.ts";

/** The first bytes of a memory belong to the kernels' constants: arenas begin here or behind it. */
export const STATICS_BYTES = 1 << 16;

/** Bytes that every instance of the linear algebra takes from its arena for packed blocks: 2.2 MiB. */
export const LINALG_WORKSPACE_BYTES = 128 + 768 * 256 + 1024 * 256 * 8;

/**
 * Returns a shared WebAssembly memory of at least `bytes`, which never grows. Only address space is
 * taken at first; pages cost memory once touched.
 *
 * @throws RangeError if `bytes` is over 4 GiB, or the system refuses.
 */
export function createSharedMemory(bytes: number): WebAssembly.Memory {
  if (!(bytes >= 0 && bytes <= MEMORY_MAX_BYTES)) {
    throw new RangeError(
      `Cannot create WebAssembly memory: need ${bytes} bytes, the most is ${MEMORY_MAX_BYTES}`,
    );
  }
  const pages = Math.max(1, Math.ceil(bytes / PAGE_BYTES));
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/**
 * Hands out typed arrays from the bytes `baseBytes .. baseBytes + sizeBytes` of a memory, contents
 * unspecified. Sizes are in elements. Every allocation throws a RangeError that says what it needs and
 * what is left.
 *
 * @example
 * ```ts
 * const arena = new Arena(createSharedMemory(1 << 20), 0, 1 << 20);
 * const mark = arena.mark();
 * const x = arena.f32(1024);
 * arena.release(mark); // x may now be handed out again
 * ```
 */
export class Arena {
  readonly memory: WebAssembly.Memory;
  readonly baseBytes: number;
  readonly sizeBytes: number;
  /** Offset in the memory of the first free byte. */
  #top: number;
  #peak = 0;

  /** @throws RangeError if the region does not lie in the memory. */
  constructor(memory: WebAssembly.Memory, baseBytes: number, sizeBytes: number) {
    const have = memory.buffer.byteLength;
    if (!(baseBytes >= 0 && sizeBytes >= 0 && baseBytes + sizeBytes <= have)) {
      throw new RangeError(
        `Cannot place arena: need bytes ${baseBytes} to ${baseBytes + sizeBytes}, ` +
          `memory has ${have}`,
      );
    }
    this.memory = memory;
    this.baseBytes = baseBytes;
    this.sizeBytes = sizeBytes;
    this.#top = baseBytes;
  }

  /** Bytes that an allocation may still take. */
  get freeBytes(): number {
    return Math.max(0, this.baseBytes + this.sizeBytes - alignUp(this.#top));
  }

  /** Most bytes that were in use at once: what the plan should have foreseen. */
  get peakBytes(): number {
    return this.#peak;
  }

  f32(count: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.memory.buffer, this.#take(count, 4), count);
  }

  f64(count: number): Float64Array<ArrayBuffer> {
    return new Float64Array(this.memory.buffer, this.#take(count, 8), count);
  }

  u8(count: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, this.#take(count, 1), count);
  }

  i8(count: number): Int8Array<ArrayBuffer> {
    return new Int8Array(this.memory.buffer, this.#take(count, 1), count);
  }

  u16(count: number): Uint16Array<ArrayBuffer> {
    return new Uint16Array(this.memory.buffer, this.#take(count, 2), count);
  }

  i32(count: number): Int32Array<ArrayBuffer> {
    return new Int32Array(this.memory.buffer, this.#take(count, 4), count);
  }

  u32(count: number): Uint32Array<ArrayBuffer> {
    return new Uint32Array(this.memory.buffer, this.#take(count, 4), count);
  }

  /** Returns the current height of the stack, for {@link release}. */
  mark(): number {
    return this.#top;
  }

  /**
   * Gives back everything taken since `mark()` returned `mark`.
   *
   * @throws RangeError if `mark` is not a height the stack has now or had before.
   */
  release(mark: number): void {
    if (!(mark >= this.baseBytes && mark <= this.#top)) {
      throw new RangeError(
        `Cannot release arena: mark ${mark} is not within ${this.baseBytes} to ${this.#top}`,
      );
    }
    this.#top = mark;
  }

  #take(count: number, elementBytes: number): number {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new RangeError(`Cannot allocate in arena: ${count} is not a number of elements`);
    }
    const start = alignUp(this.#top), need = count * elementBytes;
    const have = this.baseBytes + this.sizeBytes - start;
    if (need > have) {
      throw new RangeError(
        `Cannot allocate in arena: need ${need} bytes, have ${
          Math.max(0, have)
        } of ${this.sizeBytes}`,
      );
    }
    this.#top = start + need;
    this.#peak = Math.max(this.#peak, this.#top - this.baseBytes);
    return start;
  }
}
