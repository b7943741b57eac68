import assert from "node:assert/strict";
import { GpuKeeper } from "../../src/cli/device.ts";
import { createLog } from "../../src/cli/log.ts";
import { DEFAULT_PLACEMENT } from "../../src/pipeline/gpu_placement.ts";
import { testGpuOnly } from "../support/gpu.ts";

const WORKER = new URL("../../src/pipeline/workers/worker.ts", import.meta.url);

// Ending a device while the program ends crashed one run in twenty: see GpuService.leave().
testGpuOnly("GpuKeeper leaves its device at work when the program ends", async () => {
  const keeper = new GpuKeeper();
  const gpu = await keeper.take("gpu", {
    workerUrl: WORKER,
    log: createLog("MINIMAL", { stderr: () => {} }),
    memory: DEFAULT_PLACEMENT,
  });
  keeper[Symbol.dispose]();
  // A worker that has ended says nothing any more.
  const heard = new Promise<string>((resolve) => {
    gpu!.onFailure = resolve;
  });
  const silence = Promise.withResolvers<string>();
  const timer = setTimeout(() => silence.resolve("nothing"), 5_000);
  gpu!.provoke("lost");
  try {
    assert.match(await Promise.race([heard, silence.promise]), /lost|destroyed/i);
  } finally {
    clearTimeout(timer);
    gpu!.close();
  }
});
