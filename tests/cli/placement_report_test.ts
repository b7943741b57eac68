import assert from "node:assert/strict";
import {
  operationLines,
  operationsOnCpu,
  placementJson,
  placementLines,
} from "../../src/cli/placement_report.ts";
import type { PlannedTensor } from "../../src/plan/plan.ts";
import type { Scheme } from "../../src/quant/scheme.ts";
import { DEFAULT_PLACEMENT, placementRules } from "../../src/run/gpu_placement.ts";

const ADAPTER = {
  name: "Some GPU",
  features: [],
  limits: { maxBufferSize: 2 ** 31, maxStorageBufferBindingSize: 2 ** 27 },
};

Deno.test("placementLines() reports for each operation how large it may be, and by what", () => {
  const settings = { ...DEFAULT_PLACEMENT, thresholds: { ldlq: 4096 } };
  assert.deepEqual(placementLines(placementRules(settings, ADAPTER)), [
    "gpu: Hadamard transforms up to 33554432 elements (the buffers of Some GPU)",
    "gpu: Hessians up to 22360 columns (--streaming-mode balanced)",
    "gpu: GPTQ and LDLQ up to 4096 columns (--stream-ldlq-threshold); " +
    "in f16 from 1000000 elements on if f32 would not fit",
  ]);
  const free = { ...DEFAULT_PLACEMENT, hasLimits: false, halfWidth: "on" as const };
  assert.deepEqual(placementLines(placementRules(free, ADAPTER)).slice(1), [
    "gpu: Hessians of any size (--no-memory-limits)",
    "gpu: GPTQ and LDLQ of any size (--no-memory-limits); in f16",
  ]);
});

Deno.test("placementJson() has numbers that JSON knows", () => {
  const off = { ...DEFAULT_PLACEMENT, hasLimits: false, halfWidth: "off" as const };
  const json = placementJson(placementRules(off, ADAPTER), []);
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

/** A planned layer, as far as placement looks. */
function layer(name: string, shape: number[], scheme: Partial<Scheme>): PlannedTensor {
  return {
    source: { name, shape, dtype: "F32", file: 0, offsetBytes: 0, byteLength: 0 },
    action: "quantize",
    reason: "",
    scheme: { method: "rtn", ...scheme } as Scheme,
  };
}

Deno.test("operationsOnCpu() names the layers and operations that are too large", () => {
  const settings = {
    ...DEFAULT_PLACEMENT,
    thresholds: { ldlq: 1024, hessian: 2048, hadamard: 10 },
  };
  const transform = { rows: 4, cols: 1024, seed: 1 };
  const tensors = [
    layer("small", [8, 1024], { method: "gptq" }),
    layer("wide", [8, 1025], { method: "gptq" }),
    layer("rounded", [8, 4096], { method: "rtn" }),
    layer("transformed", [4, 600], { method: "quip", transform }),
    { ...layer("kept", [8, 4096], {}), scheme: null },
  ];
  const found = operationsOnCpu(placementRules(settings, ADAPTER), { tensors });
  assert.deepEqual(found.map(({ name, operation }) => [name, operation]), [
    ["wide", "ldlq"],
    ["transformed", "hadamard"],
  ]);
  assert.deepEqual(operationLines(found), [
    "wide: GPTQ and LDLQ on the CPU: 1025 columns, more than the 1024 that " +
    "--stream-ldlq-threshold allows",
    "transformed: Hadamard transforms on the CPU: 4096 elements, more than the 10 that " +
    "--stream-hadamard-threshold allows",
  ]);
});
