import assert from "node:assert/strict";
import { join } from "node:path";
import { broken, type Format } from "../../src/formats/format.ts";
import { byCode } from "../../src/formats/packed_codes.ts";
import { findQuantizedLayers } from "../../src/formats/quant_layers.ts";
import { FORMATS } from "../../src/formats/registry.ts";
import { planDequantize } from "../../src/convert/dequantize.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { OutputFile } from "../../src/safetensors/output_file.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { WORKER_URL } from "../support/encode.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { f32 } from "./stored_layers.ts";

/** Two bits per code, the levels -3, -1, 1 and 3, one scale: all of a format that is one file. */
const madeUp: Format = {
  id: "made_up_w2",
  title: "made-up W2",
  parts: ["weight_half_scale"],
  recognise: ({ weight, parts, marker }) => {
    const scale = parts.get("weight_half_scale");
    if (marker !== null || weight?.dtype !== "U8" || scale === undefined) return null;
    const [rows = 1, bytes = 1] = weight.shape;
    return { codes: weight, scale, shape: [rows, 4 * bytes] };
  },
  decode: (_, { codes, scale, shape: [rows = 1, cols = 1] = [] }) => {
    if (scale?.dtype !== "F32") return broken(codes, "its scale is not F32");
    const place = { file: scale.file, offsetBytes: scale.offsetBytes };
    return {
      name: codes.name,
      file: codes.file,
      offsetBytes: codes.offsetBytes,
      dtype: "I8",
      rows,
      cols,
      scale: null,
      convrotGroupSize: null,
      packed: {
        rowBytes: cols / 4,
        fields: [{ firstByte: 0, bits: 2, highFirst: false }],
        levels: byCode(4, (code) => 2 * code - 3),
        levelCount: 4,
        scales: [{ ...place, dtype: "F32", groupRows: rows, groupCols: cols }],
      },
    };
  },
  problems: (report) => report("made-up", "nobody loads it", "it is made up"),
};

Deno.test("a format is one file and one line of the registry", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors"), path = join(folder.path, "out.safetensors");
  writeModel(input, [
    tensorOf("l.weight", "U8", [2, 2], Uint8Array.of(0b11100100, 0, 0xff, 0b01010101)),
    tensorOf("l.weight_half_scale", "F32", [], new Float32Array([0.5])),
  ]);
  const model = openModel(input);
  using reader = new TensorReader(model);
  const read = (tensor: Parameters<typeof reader.read>[0]) => reader.read(tensor);
  const [unknown] = findQuantizedLayers(model, read);
  assert.equal(unknown!.rule, "unknown-layout");
  const layers = findQuantizedLayers(model, read, { formats: [...FORMATS, madeUp] });
  assert.equal(layers[0]!.kind, madeUp);
  const { header, totalBytes, tasks } = planDequantize(model, layers, { dtype: "F32" });
  using output = OutputFile.create(path, { header, totalBytes, force: false });
  await pool.run({ inputPaths: model.paths, outputs: [output.place], tasks });
  output.commit();
  assert.deepEqual([...f32(readModel(path).get("l.weight")!)], [
    ...[-1.5, -0.5, 0.5, 1.5, -1.5, -1.5, -1.5, -1.5],
    ...[1.5, 1.5, 1.5, 1.5, -0.5, -0.5, -0.5, -0.5],
  ]);
});

Deno.test("FORMATS has every id once", () => {
  assert.equal(new Set(FORMATS.map(({ id }) => id)).size, FORMATS.length);
});
