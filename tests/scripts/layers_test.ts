import { deepStrictEqual, strictEqual } from "node:assert/strict";
import {
  findCycle,
  layerOf,
  layerViolations,
  type ModuleNode,
} from "../../scripts/support/layers.ts";

/** A module that imports `targets`, each written as it resolves. */
function module(path: string, ...targets: string[]): ModuleNode {
  return { path, imports: targets.map((target) => ({ specifier: target, target })) };
}

function faultsOf(from: string, to: string): string[] {
  return layerViolations([module(from, to)], new Set(["valibot"]));
}

const GOOD: readonly (readonly [string, string])[] = [
  ["main.ts", "src/cli/run.ts"],
  ["main.ts", "node:process"],
  ["mod.ts", "src/convert/convert.ts"],
  ["src/cli/run.ts", "src/convert/convert.ts"],
  ["src/cli/run.ts", "src/backend/select/devices.ts"],
  ["src/cli/run.ts", "node:fs"],
  ["src/cli/run.ts", "deno.json"],
  ["src/plan/plan.ts", "src/presets/rule.ts"],
  ["src/run/task_kinds.ts", "src/backend/backend.ts"],
  ["src/run/workers/run_worker.ts", "src/backend/cpu/arena.ts"],
  ["src/run/workers/worker_pool.ts", "node:os"],
  ["src/lora/load_lora.ts", "src/safetensors/loader.ts"],
  ["src/quant/gptq.ts", "src/linalg/cholesky.ts"],
  ["src/backend/reference/linalg/gemm.ts", "src/linalg/matrix.ts"],
  ["src/safetensors/reader.ts", "node:fs"],
  ["src/safetensors/shards.ts", "node:path"],
  ["src/config/layer_config.ts", "valibot"],
  ["src/backend/webgpu/pipelines.ts", "wgsl/rotate.wgsl"],
  ["src/backend/cpu/wasm_module.ts", "src/backend/cpu/kernels.wasm.b64"],
];

const BAD: readonly (readonly [string, string, string])[] = [
  ["src/core/dtype.ts", "src/safetensors/header.ts", "core may not import safetensors"],
  ["src/quant/gptq.ts", "src/presets/rule.ts", "quant may not import presets"],
  ["src/quant/gptq.ts", "src/backend/cpu/arena.ts", "quant may not import backend/cpu"],
  ["src/plan/plan.ts", "src/convert/convert.ts", "plan may not import convert"],
  ["src/formats/marker.ts", "src/plan/plan.ts", "formats may not import plan"],
  ["src/library/int8.ts", "src/edit/operation.ts", "library may not import edit"],
  ["src/convert/convert.ts", "src/cli/run.ts", "convert may not import cli"],
  ["src/convert/convert.ts", "src/backend/cpu/arena.ts", "convert may not import backend/cpu"],
  [
    "src/convert/convert.ts",
    "src/backend/select/devices.ts",
    "convert may not import backend/select",
  ],
  ["src/backend/cpu/arena.ts", "src/linalg/cholesky.ts", "backend/cpu may not import linalg"],
  ["src/lora/merge.ts", "src/safetensors/reader.ts", "lora may not import safetensors"],
  ["src/cli/run.ts", "src/backend/webgpu/device.ts", "cli may not import backend/webgpu"],
  ["src/cli/run.ts", "tests/support/x.ts", "nothing imports tests or scripts"],
  ["src/cli/run.ts", "scripts/demo.ts", "nothing imports tests or scripts"],
  ["mod.ts", "src/cli/run.ts", "mod may not import cli"],
  ["src/cli/run.ts", "src/utils.ts", '"src/utils.ts" lies in no layer'],
  ["src/presets/rule.ts", "node:fs", "files and processes are touched at the edge only"],
  ["src/safetensors/shards.ts", "node:process", "files and processes are touched at the edge only"],
  ["src/config/layer_config.ts", "left-pad", "it is not in the import map of deno.json"],
  ["src/cli/run.ts", "npm:chalk@5", "it is not in the import map of deno.json"],
  ["src/cli/run.ts", "https://example.com/x.ts", "it is not in the import map of deno.json"],
];

for (const [from, to] of GOOD) {
  Deno.test(`layerViolations() lets ${from} import ${to}`, () => {
    deepStrictEqual(faultsOf(from, to), []);
  });
}

for (const [from, to, rule] of BAD) {
  Deno.test(`layerViolations() refuses that ${from} imports ${to}`, () => {
    deepStrictEqual(faultsOf(from, to), [`${from} imports "${to}": ${rule}`]);
  });
}

Deno.test("layerViolations() reports a cycle with its path", () => {
  const faults = layerViolations([
    module("src/core/a.ts", "src/core/b.ts"),
    module("src/core/b.ts", "src/core/c.ts"),
    module("src/core/c.ts", "src/core/b.ts"),
  ], new Set());
  deepStrictEqual(faults, [
    "Modules import one another: src/core/b.ts -> src/core/c.ts -> src/core/b.ts",
  ]);
});

Deno.test("findCycle() takes a module that two others import for no cycle", () => {
  const modules = [
    module("src/core/a.ts", "src/core/b.ts", "src/core/c.ts"),
    module("src/core/b.ts", "src/core/c.ts"),
    module("src/core/c.ts"),
  ];
  strictEqual(findCycle(modules), null);
});

Deno.test("layerOf() distinguishes the parts of the backend", () => {
  strictEqual(layerOf("src/backend/backend.ts"), "backend");
  strictEqual(layerOf("src/backend/cpu/arena.ts"), "backend/cpu");
  strictEqual(layerOf("src/backend/select/devices.ts"), "backend/select");
  strictEqual(layerOf("src/helpers.ts"), null);
});
