/**
 * The data that learned rounding keeps on the GPU between requests: the second moments of the layer that is being
 * rounded, one at a time, and for every worker the gradient of its rows.
 */

import { GpuMoments, OutputDescent } from "../../backend/webgpu/output_descent.ts";
import type { Gpu } from "../../backend/webgpu/device.ts";
import { DeviceError } from "../../core/errors.ts";
import type { DescentCall } from "../gpu_requests.ts";

/** Memory of the device that outlives requests. */
export class GpuDescents {
  readonly #gpu: Gpu;
  #moments: GpuMoments | null = null;
  /** Number of the moments that are there; 0 were never. */
  #id = 0;
  readonly #rows = new Map<MessagePort, OutputDescent>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Carries out what comes over `port`. @throws DeviceError if the device cannot. */
  async run(port: MessagePort, call: DescentCall): Promise<void> {
    switch (call.kind) {
      case "moments":
        this.#forget();
        this.#moments = await GpuMoments.upload(this.#gpu, call);
        this.#id++;
        call.id[0] = this.#id;
        return;
      case "rows": {
        const moments = this.#moments;
        if (moments === null || call.id !== this.#id) {
          throw new DeviceError(`Cannot round rows: moments ${call.id} are not on the GPU`);
        }
        this.#rows.get(port)?.destroy();
        this.#rows.delete(port);
        this.#rows.set(port, await OutputDescent.open(moments, call));
        return;
      }
      case "measure":
        await this.#of(port).measure(call.errors, call.gradient);
        return;
      case "descend":
        await this.#of(port).descend(call);
        return;
      case "forget":
        this.#forget();
    }
  }

  #of(port: MessagePort): OutputDescent {
    const rows = this.#rows.get(port);
    if (rows === undefined) throw new DeviceError("Cannot round rows: they are not on the GPU");
    return rows;
  }

  #forget(): void {
    for (const rows of this.#rows.values()) rows.destroy();
    this.#rows.clear();
    this.#moments?.destroy();
    this.#moments = null;
  }
}
