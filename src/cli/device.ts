/** The device of a command: `--device`. */

import {
  type AdapterLimits,
  gpuPlacementOf,
  placementRules,
  type PlacementSettings,
} from "../run/gpu_placement.ts";
import { chooseGpu, type DeviceChoice } from "../run/workers/choose_gpu.ts";
import type { GpuService } from "../run/workers/gpu_service.ts";
import type { Log } from "./log.ts";
import { placementLines } from "./placement_report.ts";

export { type DeviceChoice, mayHaveGpu } from "../run/workers/choose_gpu.ts";

/** Parameters of the choice of a device. */
export interface DeviceContext {
  readonly workerUrl: URL;
  readonly log: Log;
  /** The memory settings that it will get. */
  readonly memory: PlacementSettings;
}

/** Keeps the GPU of one conversion for the next. Dispose it (`using`), or the process stays. */
export class GpuKeeper implements Disposable {
  /** The choice; undefined before the first time. */
  #gpu: GpuService | null | undefined;

  /** Returns what {@link chooseGpu} chose the first time; a device that has failed since is opened anew. */
  async take(
    choice: DeviceChoice,
    context: DeviceContext,
  ): Promise<GpuService | null> {
    if (this.#gpu && this.#gpu.failure !== null) {
      this.#gpu.close();
      this.#gpu = undefined;
    }
    if (this.#gpu === undefined) this.#gpu = await open(choice, context);
    return this.#gpu;
  }

  [Symbol.dispose](): void {
    this.#gpu?.close();
  }
}

async function open(
  choice: DeviceChoice,
  { workerUrl, log, memory }: DeviceContext,
): Promise<GpuService | null> {
  const rulesOf = (adapter: AdapterLimits) => placementRules(memory, adapter);
  const placementOf = (adapter: AdapterLimits) => gpuPlacementOf(rulesOf(adapter));
  const gpu = await chooseGpu(choice, { workerUrl, log, placementOf });
  if (gpu !== null) { for (const line of placementLines(rulesOf(gpu.adapter))) log.verbose(line); }
  return gpu;
}
