/** A file that its server sends in one piece only: all of it goes to a file here, and is read from there. */

import type { readRemoteRange } from "./range_request.ts";
import type { SpillFile } from "./spill_file.ts";

/** Parameters of {@link readRemoteRange} for the file, without the receiver. */
export type FetchWhole = (onBytes: (bytes: Uint8Array) => void) => ReturnType<
  typeof readRemoteRange
>;

/** Bytes that are written at a time. */
const WRITE_BYTES = 1 << 20;

/** One such file. It comes from its first byte to its last, from the moment this is made. */
export class WholeFile {
  readonly #file: number;
  readonly #spill: SpillFile;
  readonly #buffer = new Uint8Array(WRITE_BYTES);
  #buffered = 0;
  /** How much of it is in the spill file. */
  #written = 0;
  #waiters: { end: number; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #failure: unknown = null;

  /** @param file its number in `spill`. */
  constructor(file: number, spill: SpillFile, fetchWhole: FetchWhole) {
    this.#file = file;
    this.#spill = spill;
    fetchWhole((bytes) => this.#take(bytes)).then(() => this.#write(), (error) => {
      this.#failure = error;
      for (const { reject } of this.#waiters.splice(0)) reject(error);
    });
  }

  /** Fills `view`, once its bytes have come. */
  async read(view: Uint8Array, positionBytes: number): Promise<void> {
    const end = positionBytes + view.length;
    if (end > this.#written) {
      if (this.#failure !== null) throw this.#failure;
      await new Promise<void>((resolve, reject) => this.#waiters.push({ end, resolve, reject }));
    }
    this.#spill.read(this.#file, view, positionBytes);
  }

  #take(bytes: Uint8Array): void {
    for (let taken = 0; taken < bytes.length;) {
      const part = bytes.subarray(taken, taken + WRITE_BYTES - this.#buffered);
      this.#buffer.set(part, this.#buffered);
      this.#buffered += part.length;
      taken += part.length;
      if (this.#buffered === WRITE_BYTES) this.#write();
    }
  }

  #write(): void {
    this.#spill.write(this.#file, this.#buffer.subarray(0, this.#buffered), this.#written);
    this.#written += this.#buffered;
    this.#buffered = 0;
    const isHere = ({ end }: { end: number }) => end <= this.#written;
    for (const { resolve } of this.#waiters.filter(isHere)) resolve();
    this.#waiters = this.#waiters.filter((waiter) => !isHere(waiter));
  }
}
