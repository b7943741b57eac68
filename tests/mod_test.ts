import assert from "node:assert/strict";
import { join } from "node:path";
import * as library from "../mod.ts";
import { convertToInt8, MODEL_FILTERS, UnifiedSafetensorsLoader } from "../mod.ts";
import { temporaryFolder, tensorOf, writeModel } from "./support/model_files.ts";

Deno.test("convertToInt8() converts a file and its result is what the loader reads back", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const w = Float32Array.from({ length: 512 * 256 }, (_, i) => Math.sin(i) * (i % 7));
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [512, 256], w)]);
  const outputPath = join(folder.path, "out.safetensors");
  const { layers } = await convertToInt8({ input, outputPath, workers: 1 });
  assert.ok(layers[0]!.errors.sqnrDb! > 38);
  using loader = new UnifiedSafetensorsLoader(outputPath, { lowMemory: true });
  assert.deepEqual(loader.getShape("blocks.0.lin.weight_scale"), [512, 1]);
  assert.equal(loader.getNdim("blocks.0.lin.weight"), 2);
});

Deno.test("mod.ts exports what the documents name", () => {
  const names = [
    "convertToInt8",
    "UnifiedSafetensorsLoader",
    "QuIPInt8Converter",
    "LearnedRoundingConverter",
    "GPTQInt8Converter",
    "QualityReporter",
    "loadLoraTensors",
    "loadLoraForMerging",
    "mergeLoraIntoWeight",
    "mergeMultipleLoras",
    "loadLayerConfig",
    "MODEL_FILTERS",
    "INT8_SYMMETRIC_MAX",
    "QuantizedTensor",
    "registerLayout",
    "int8Gemm",
    "int8Addmm",
    "actQuant",
    "actDequant",
    "weightQuant",
    "weightDequant",
    "quipInt8Matmul",
  ];
  assert.deepEqual(names.filter((name) => !Object.hasOwn(library, name)), []);
});

Deno.test("MODEL_FILTERS holds the documented presets", () => {
  assert.equal(Object.keys(MODEL_FILTERS).length, 15);
});
