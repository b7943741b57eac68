import assert from "node:assert/strict";
import { GpuService } from "../../../src/run/workers/gpu_service.ts";
import { type FaultyGpu, startFaultyGpu } from "../../support/faulty_gpu.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const WORKER = new URL("../../../src/run/workers/worker.ts", import.meta.url);

/** Whether a device's worker still hears and answers. */
async function isAlive({ gpu, provoke }: FaultyGpu): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  gpu.onFailure = () => resolve(true);
  const timer = setTimeout(() => resolve(false), 3_000);
  provoke("lost");
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}

// Ending a device while the process ends crashed one run in five.
testGpuOnly("GpuService.close() leaves the worker to the end of the process", async () => {
  using faulty = await startFaultyGpu();
  faulty.gpu.close();
  assert.equal(await isAlive(faulty), true);
});

testGpuOnly("GpuService.start() ends the worker of a device that was closed", async () => {
  using first = await startFaultyGpu();
  first.gpu.close();
  using _second = await GpuService.start(WORKER);
  assert.equal(await isAlive(first), false);
});
