import assert from "node:assert/strict";
import { placementJson, placementLines } from "../../src/cli/placement_report.ts";
import { DEFAULT_PLACEMENT, placementRules } from "../../src/pipeline/gpu_placement.ts";

const ADAPTER = {
  name: "Some GPU",
  features: [],
  limits: { maxBufferSize: 2 ** 31, maxStorageBufferBindingSize: 2 ** 27 },
};

Deno.test("placementLines() tells for each operation how large it may be, and by what", () => {
  const settings = { ...DEFAULT_PLACEMENT, thresholds: { ldlq: 4096 } };
  assert.deepEqual(placementLines(placementRules(settings, ADAPTER)), [
    "gpu: Hadamard transforms up to 33554432 elements (the buffers of Some GPU)",
    "gpu: Hessians up to 22360 columns (--streaming-mode balanced)",
    "gpu: GPTQ and LDLQ up to 4096 columns (--stream-ldlq-threshold); " +
    "in bf16 from 1000000 elements on where f32 would not fit",
  ]);
  const free = { ...DEFAULT_PLACEMENT, hasLimits: false, halfWidth: "on" as const };
  assert.deepEqual(placementLines(placementRules(free, ADAPTER)).slice(1), [
    "gpu: Hessians of any size (--no-memory-limits)",
    "gpu: GPTQ and LDLQ of any size (--no-memory-limits); in bf16",
  ]);
});

Deno.test("placementJson() has numbers that JSON knows", () => {
  const off = { ...DEFAULT_PLACEMENT, hasLimits: false, halfWidth: "off" as const };
  const json = placementJson(placementRules(off, ADAPTER));
  assert.deepEqual(JSON.parse(JSON.stringify(json)), json);
  assert.deepEqual((json["operations"] as Record<string, unknown>)["ldlq"], {
    most: null,
    unit: "columns",
    origin: "--no-memory-limits",
    half_width: null,
    half_width_elements: null,
    half_width_above: null,
  });
});
