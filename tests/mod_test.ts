import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as library from "../mod.ts";
import { convertToInt8, MODEL_FILTERS, UnifiedSafetensorsLoader } from "../mod.ts";
import { f32ToBf16 } from "../src/core/dtype.ts";
import { FileServer } from "./support/file_server.ts";
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

Deno.test("convertToInt8() takes a URL, gives the bytes of the local file, and keeps no thread", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  const bits = Uint16Array.from({ length: 512 * 512 }, (_, i) => f32ToBf16(Math.sin(i)));
  writeModel(input, [tensorOf("blocks.0.linear.weight", "BF16", [512, 512], bits)]);
  await using server = await FileServer.start({ files: folder.path });
  const outputs = await Promise.all([input, server.url("m.safetensors")].map(async (word, i) => {
    const outputPath = join(folder.path, `${i}.safetensors`);
    await convertToInt8({ input: word, outputPath, workers: 1 });
    return readFileSync(outputPath);
  }));
  assert.ok(outputs[0]!.equals(outputs[1]!));
  const taken = join(folder.path, "0.safetensors");
  const requests = server.requests.length;
  await assert.rejects(
    convertToInt8({ input: server.url("m.safetensors"), outputPath: taken }),
    /exists/,
  );
  assert.equal(server.requests.length, requests);
});

Deno.test("MODEL_FILTERS holds the documented presets", () => {
  assert.equal(Object.keys(MODEL_FILTERS).length, 15);
});
