import assert from "node:assert/strict";
import process from "node:process";
import { inspectDevices } from "../../../src/backend/select/devices.ts";
import { testGpu } from "../../support/gpu.ts";

const { signal } = new AbortController();

Deno.test({
  name: "inspectDevices() tests and times every adapter [webgpu]",
  ignore: testGpu === null,
  // The driver loads libraries that stay.
  sanitizeResources: false,
  async fn() {
    const told: string[] = [];
    const { adapters, cpuChunkMs, hasWebGpu } = await inspectDevices({
      hasWasm: true,
      signal,
      onAdapter: ({ name }) => told.push(name),
    });
    assert.equal(hasWebGpu, true);
    assert(cpuChunkMs !== null && cpuChunkMs > 0);
    assert.deepEqual(told, adapters.map(({ info }) => info.name));
    const [first] = adapters;
    assert.equal(first!.failure, null);
    assert.deepEqual(first!.checks.filter(({ passed }) => !passed), []);
    assert(first!.checks.some(({ kernel }) => kernel === "quantize"));
    assert.equal(first!.sameCodes, true);
    assert(first!.chunkMs! > 0);
  },
});

Deno.test("inspectDevices() ends with the reason of its signal", async () => {
  const reason = new Error("enough");
  const aborted = { hasWasm: false, signal: AbortSignal.abort(reason) };
  if (testGpu === null || process.env["QUANTSMITH_TEST_GPU"] === "none") {
    assert.deepEqual((await inspectDevices(aborted)).cpuChunkMs, null);
    return;
  }
  await assert.rejects(inspectDevices(aborted), reason);
});

Deno.test("inspectDevices() finds no adapter in a runtime without WebGPU", async () => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "navigator")!;
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  try {
    const devices = await inspectDevices({ hasWasm: false, signal });
    assert.deepEqual(devices, { cpuChunkMs: null, hasWebGpu: false, adapters: [] });
  } finally {
    Object.defineProperty(globalThis, "navigator", own);
  }
});
