/**
 * How long a device may take for what it was given. Some drivers hang without losing the device, and nothing
 * would ever come back: after a generous time, by the work that is under way, the device counts as failed.
 */

import type { DeviceError } from "../../core/errors.ts";

/** Milliseconds that any batch may take: shaders are compiled, other programs use the device. */
const BASE_MS = 60_000;

/** Milliseconds per workgroup: some million operations, which a software driver does in one. */
const WORKGROUP_MS = 2;

/** The deadline of one batch. Dispose it when the batch is done. */
export interface Deadline extends Disposable {
  /** Returns what `work` gives; throws the failure of the device if it takes too long. */
  within<T>(work: Promise<T>): Promise<T>;
}

/** The deadlines of all batches that a device has under way: it does them one after the other. */
export class Deadlines {
  readonly #baseMs: number;
  readonly #workgroupMs: number;
  readonly #promise: (ms: number) => void;
  #owedMs = 0;

  /** @param times `promise` gets the number of milliseconds in which all will be done, whenever that changes. */
  constructor({ baseMs = BASE_MS, workgroupMs = WORKGROUP_MS, promise = (_: number) => {} } = {}) {
    this.#baseMs = baseMs;
    this.#workgroupMs = workgroupMs;
    this.#promise = promise;
  }

  /**
   * Starts the time of a batch of so many workgroups, behind those that are under way; half of what any batch
   * may take more for each shader that is still to be compiled.
   *
   * @param failed called when the time is over: marks the device as failed and returns the error.
   */
  start(
    workgroups: number,
    failed: (waitedMs: number) => DeviceError,
    newShaders = 0,
  ): Deadline {
    const ownMs = this.#baseMs * (1 + newShaders / 2) + workgroups * this.#workgroupMs;
    this.#owedMs += ownMs;
    this.#promise(this.#owedMs);
    const waitedMs = this.#owedMs;
    const started = performance.now();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<never>((_, reject) => {
      // Timers count in 32 bits.
      timer = setTimeout(() => reject(failed(waitedMs)), Math.min(waitedMs, 2 ** 31 - 1));
    });
    over.catch(() => {}); // nobody may be waiting
    return {
      within: async (work) => {
        work.catch(() => {}); // it may fail after its time, when nobody listens
        const result = await Promise.race([work, over]);
        // Some drivers compute while this thread waits, so that no timer gets its turn.
        if (performance.now() - started > waitedMs) throw failed(waitedMs);
        return result;
      },
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        this.#owedMs -= ownMs;
      },
    };
  }
}
