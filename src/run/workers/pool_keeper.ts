/** Keeps the workers of one conversion for the next: starting them costs more than a small file. */

import type { GpuService } from "./gpu_service.ts";
import type { EarlyWorkers } from "./run_thread.ts";
import { WorkerPool } from "./worker_pool.ts";

/** Worker pools for several conversions, one after the other. Dispose it (`using`), or the process stays. */
export class PoolKeeper implements Disposable {
  readonly #workerUrl: URL;
  readonly #early: EarlyWorkers | null;
  #pool: WorkerPool | null = null;

  /**
   * @param workerUrl URL of `src/run/workers/worker.ts`, built in the main module.
   * @param early threads that were started before; the first pools take them.
   */
  constructor(workerUrl: URL, early: EarlyWorkers | null = null) {
    this.#workerUrl = workerUrl;
    this.#early = early;
  }

  /**
   * Returns a pool of `count` workers, the last one if it has as many and the same `gpu`. For one
   * conversion at a time.
   */
  take(count: number, gpu: GpuService | null = null): WorkerPool {
    if (this.#pool?.size !== count || this.#pool.gpu !== gpu) {
      this.drop();
      this.#pool = new WorkerPool(this.#workerUrl, count, gpu, this.#early);
    }
    return this.#pool!;
  }

  /** Ends the workers, for example after a failure: one that died would not answer. */
  drop(): void {
    this.#pool?.close();
    this.#pool = null;
  }

  [Symbol.dispose](): void {
    this.drop();
  }
}
