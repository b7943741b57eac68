import assert from "node:assert/strict";
import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { type Inspection, inspectionJson, inspectModel } from "../../src/convert/inspect.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { writeSparseModel } from "../support/header_files.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { int8Layer, markerTensor, randomValues } from "../support/encode.ts";

function inspectFile(path: string): Inspection {
  const model = openModel(path);
  using reader = new TensorReader(model);
  return inspectModel(model, (tensor) => {
    assert(tensor.name.endsWith(".comfy_quant"), `read ${tensor.name}`);
    return reader.read(tensor);
  });
}

function inspect(tensors: Tensor[], metadata: Record<string, string> | null = null): Inspection {
  using folder = temporaryFolder();
  const path = join(folder.path, "m.safetensors");
  writeModel(path, tensors, metadata);
  return inspectFile(path);
}

Deno.test("inspectModel() counts tensors, dtypes, formats and rotations, reading markers only", () => {
  const values = randomValues(4 * 16);
  const inspection = inspect([
    ...int8Layer("a", values, { rows: 4, cols: 16, convrot: 16 }).tensors,
    ...int8Layer("b", values, { rows: 4, cols: 16 }).tensors,
    tensorOf("norm.weight", "BF16", [16], new Uint16Array(16)),
  ], { format: "pt" });
  assert.equal(inspection.tensors, 7);
  assert.deepEqual(inspection.dtypes, { I8: 2, U8: 2, BF16: 1, F32: 2 });
  assert.deepEqual(inspection.dtypeBytes["I8"], 128);
  assert.equal(Object.keys(inspection.dtypes)[0], "I8");
  assert.deepEqual(inspection.quantized, { int8_tensorwise: 2 });
  assert.deepEqual(inspection.convrotGroups, { 16: 1 });
  assert.equal(inspection.parameters, 2 * 64 + 16);
  assert.deepEqual(inspection.metadata, { format: "pt" });
  assert.deepEqual(inspection.markerProblems, []);
});

Deno.test("inspectModel() names layers that no marker names by their layout", () => {
  const scalar = (name: string) => tensorOf(name, "F32", [], new Float32Array(1));
  const { quantized, markerProblems } = inspect([
    tensorOf("a.weight", "F8_E4M3", [2, 2], new Uint8Array(4)),
    scalar("a.scale_weight"),
    tensorOf("b.weight", "I8", [2, 2], new Int8Array(4)),
    scalar("b.weight_scale"),
    tensorOf("c.weight", "I8", [2, 2], new Int8Array(4)),
    markerTensor("c", "{"),
  ]);
  assert.deepEqual(quantized, {
    "F8_E4M3 scale_weight": 1,
    "I8 weight_scale": 1,
    "malformed marker": 1,
  });
  assert.equal(markerProblems.length, 1);
});

Deno.test("inspectModel() says what a real checkpoint is", () => {
  using folder = temporaryFolder();
  const inspection = inspectFile(
    writeSparseModel("z-image-turbo-int8-convrot-official", folder.path),
  );
  const json = inspectionJson(inspection);
  assert.equal(json["family"], "z_image");
  assert.deepEqual(json["quantized"], { int8_tensorwise: 202 });
  assert.deepEqual(json["convrot_groups"], { 256: 202 });
  assert.equal(inspection.largest.length, 5);
});

Deno.test("inspectionJson() has the documented keys, and {} if there is no metadata", () => {
  const json = JSON.parse(JSON.stringify(inspectionJson(inspect([]))));
  assert.deepEqual(
    [json.tensors, json.dtypes, json.quantized, json.metadata, json.family],
    [0, {}, {}, {}, null],
  );
});
