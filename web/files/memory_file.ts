/** A small file in memory. */

import type { RandomAccessFile } from "./random_access_file.ts";

/** Locks, reports, tests; and outputs if a browser has no storage. */
export class MemoryFile implements RandomAccessFile {
  #bytes = new Uint8Array(0);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** A view of what it holds; valid until the next write. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#size);
  }

  read(view: Uint8Array, position: number): number {
    const found = this.bytes.subarray(position, position + view.length);
    view.set(found);
    return found.length;
  }

  write(view: Uint8Array, position: number): void {
    const end = position + view.length;
    if (end > this.#size) this.truncate(end);
    this.#bytes.set(view, position);
  }

  truncate(size: number): void {
    if (size > this.#bytes.length) {
      const larger = new Uint8Array(
        Math.max(size, Math.min(2 * this.#bytes.length, size + (1 << 24))),
      );
      larger.set(this.bytes);
      this.#bytes = larger;
    } else if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  flush(): void {}
}
