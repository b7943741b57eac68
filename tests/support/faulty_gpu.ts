/** A GPU that fails when a test asks for it. */

import { randomUUID } from "node:crypto";
import { GpuService } from "../../src/run/workers/gpu_service.ts";

/** Ways of a device to fail: it is lost, has no memory left, or does not compile a shader. */
export type Fault = "lost" | "memory" | "shader";

/** A device that works until it is asked to fail. Dispose it. */
export interface FaultyGpu extends Disposable {
  readonly gpu: GpuService;
  /** Makes the device fail from now on. */
  provoke(fault: Fault): void;
}

/** Opens the GPU of this machine in a worker that can be made to fail. */
export async function startFaultyGpu(
  placementOf?: Parameters<typeof GpuService.start>[1],
): Promise<FaultyGpu> {
  const name = randomUUID();
  const workerUrl = new URL(`./faulty_gpu_worker.ts?channel=${name}`, import.meta.url);
  const gpu = await GpuService.start(workerUrl, placementOf);
  const channel = new BroadcastChannel(name);
  return {
    gpu,
    provoke: (fault) => channel.postMessage(fault),
    [Symbol.dispose]() {
      channel.close();
      gpu.close();
    },
  };
}
