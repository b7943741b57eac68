/**
 * Buffers that are used again: creating one costs more than a small kernel. Sizes are rounded up to a few
 * classes; a buffer has one owner from `take` to `give`, contents unspecified.
 */

/** Classes a power of 2 has: a buffer is at most a quarter larger than asked for. */
const CLASSES_PER_OCTAVE = 4;

/** The smallest buffer, in bytes. */
const SMALLEST = 256;

/** Returns the size class of `bytes`: at least as large, a multiple of 4. */
export function sizeClass(bytes: number): number {
  if (bytes <= SMALLEST) return SMALLEST;
  const octave = 2 ** Math.floor(Math.log2(bytes));
  const step = octave / CLASSES_PER_OCTAVE;
  return Math.ceil(bytes / step) * step;
}

/** Idle and lent buffers of one device. */
export class BufferPool {
  readonly #device: GPUDevice;
  readonly #idle = new Map<string, GPUBuffer[]>();
  readonly #keyOf = new Map<GPUBuffer, string>();
  #bytes = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Bytes of all buffers, lent or idle. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Returns a buffer of at least `bytes`. If the device has no room, the error scope around reports it. */
  take(label: string, bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    // A size that fits the device must.
    const fitting = Math.min(sizeClass(bytes), this.#device.limits.maxBufferSize);
    const size = Math.max(fitting, 4 * Math.ceil(bytes / 4));
    const key = `${usage}/${size}`;
    const idle = this.#idle.get(key)?.pop();
    if (idle !== undefined) {
      idle.label = label;
      return idle;
    }
    const buffer = this.#device.createBuffer({ label, size, usage });
    this.#keyOf.set(buffer, key);
    this.#bytes += size;
    return buffer;
  }

  /** Gives a buffer back. Work that was submitted before may still use it: queues keep their order. */
  give(buffer: GPUBuffer): void {
    const key = this.#keyOf.get(buffer);
    if (key === undefined) {
      throw new TypeError("Cannot give back a buffer that is not of this pool");
    }
    const idle = this.#idle.get(key);
    if (idle === undefined) this.#idle.set(key, [buffer]);
    else idle.push(buffer);
  }

  /** Destroys a lent buffer, for example one that turned out to be invalid. */
  drop(buffer: GPUBuffer): void {
    const key = this.#keyOf.get(buffer);
    if (key === undefined) return;
    this.#keyOf.delete(buffer);
    this.#bytes -= Number(key.slice(key.indexOf("/") + 1));
    buffer.destroy();
  }

  /** Destroys the idle ones: what other sizes need may be missing. */
  trim(): void {
    for (const buffers of this.#idle.values()) buffers.forEach((buffer) => this.drop(buffer));
    this.#idle.clear();
  }
}
