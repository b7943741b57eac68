/** Where a command computes: `--device`. */

import { chooseGpu, type DeviceChoice } from "../pipeline/workers/choose_gpu.ts";
import type { GpuService } from "../pipeline/workers/gpu_service.ts";
import type { Log } from "./log.ts";

export { type DeviceChoice, mayHaveGpu } from "../pipeline/workers/choose_gpu.ts";

/** Keeps the GPU of one conversion for the next. Dispose it (`using`), or the process stays. */
export class GpuKeeper implements Disposable {
  /** What was chosen; undefined before the first time. */
  #gpu: GpuService | null | undefined;

  /** Returns what {@link chooseGpu} chose the first time; a device that has failed since is opened anew. */
  async take(
    choice: DeviceChoice,
    context: { readonly workerUrl: URL; readonly log: Log },
  ): Promise<GpuService | null> {
    if (this.#gpu && this.#gpu.failure !== null) {
      this.#gpu.close();
      this.#gpu = undefined;
    }
    if (this.#gpu === undefined) this.#gpu = await chooseGpu(choice, context);
    return this.#gpu;
  }

  [Symbol.dispose](): void {
    this.#gpu?.close();
  }
}
