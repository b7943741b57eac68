import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { InterruptedError, UnsupportedError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { type DequantizeDType, dequantizeModel } from "../../src/convert/dequantize.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { encode, int8Layer, markerTensor, randomValues, WORKER_URL } from "../support/encode.ts";

const ROWS = 6;
const COLS = 32;
const VALUES = randomValues(ROWS * COLS);
const NORM = tensorOf("norm.weight", "BF16", [3], new Uint16Array([1, 2, 3]));

/** The result of a dequantization. */
interface Outcome {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>> | null;
}

/** Dequantizes a file with these tensors. */
async function dequantize(
  tensors: readonly Tensor[],
  { dtype = "F32", metadata = null, signal }: {
    dtype?: DequantizeDType;
    metadata?: Record<string, string> | null;
    signal?: AbortSignal;
  } = {},
): Promise<Outcome> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const input = join(folder.path, "in.safetensors");
  const output = join(folder.path, "out.safetensors");
  writeModel(input, tensors, metadata);
  try {
    await dequantizeModel(openModel(input), { output, dtype, pool, signal });
  } catch (error) {
    assert.deepEqual(readdirSync(folder.path), ["in.safetensors"], "nothing is left behind");
    throw error;
  }
  assert(existsSync(output));
  return { tensors: readModel(output), metadata: openModel(output).metadata };
}

const f32 = ({ data }: Tensor) => new Float32Array(data.slice().buffer);

Deno.test("dequantizeModel() applies scales and undoes the rotation, bit for bit", async () => {
  for (const convrot of [undefined, 4, 16]) {
    const options = { rows: ROWS, cols: COLS, ...(convrot === undefined ? {} : { convrot }) };
    const { tensors, encoded } = int8Layer("l", VALUES, options);
    const { tensors: out } = await dequantize(tensors);
    assert.deepEqual([...out.keys()], ["l.weight"]);
    assert.deepEqual([out.get("l.weight")!.dtype, out.get("l.weight")!.shape], ["F32", [6, 32]]);
    assert.deepEqual(f32(out.get("l.weight")!), encoded.restored);
  }
});

Deno.test("dequantizeModel() restores every stored form", async () => {
  const tiles = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: 2, groupCols: 2 });
  const groups = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: 1, groupCols: 8 });
  const rows = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: 1, groupCols: COLS });
  const whole = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: ROWS, groupCols: COLS });
  const scale = (name: string, shape: number[], values: Float32Array) =>
    tensorOf(`l.${name}`, "F32", shape, values);
  const forms = [
    [
      tiles,
      scale("weight_scale", [3, 16], tiles.scales),
      markerTensor("l", { format: "int8_blockwise", group_size: 2 }),
    ],
    [
      groups,
      scale("weight_scale", [6, 4, 1], groups.scales),
      markerTensor("l", { format: "int8_blockwise", group_size: 8 }),
    ],
    [
      rows,
      scale("weight_scale", [6], rows.scales),
      markerTensor("l", { format: "int8_axiswise" }),
    ],
    [rows, scale("scale_weight", [6, 1], rows.scales)],
    [whole, scale("scale_weight", [], whole.scales)],
    [
      whole,
      scale("weight_scale", [1], whole.scales),
      markerTensor("l", { format: "int8_tensorwise" }),
    ],
  ] as const;
  for (const [encoded, ...parts] of forms) {
    const weight = tensorOf("l.weight", "I8", [ROWS, COLS], encoded.codes);
    const { tensors } = await dequantize([weight, ...parts]);
    assert.deepEqual([...tensors.keys()], ["l.weight"]);
    assert.deepEqual(f32(tensors.get("l.weight")!), encoded.restored);
  }
});

Deno.test("dequantizeModel() restores scaled FP8 in the old layout and in the new one", async () => {
  const codes = new Uint8Array([0x38, 0xb8, 0x40, 0x00]); // 1, -1, 2, 0 of F8_E4M3
  const half = (name: string) => tensorOf(`l.${name}`, "F32", [], new Float32Array([0.5]));
  const weight = tensorOf("l.weight", "F8_E4M3", [2, 2], codes);
  const old = await dequantize([
    weight,
    half("scale_weight"),
    half("scale_input"),
    tensorOf("scaled_fp8", "F8_E4M3", [0], new Uint8Array(0)),
  ]);
  const marked = await dequantize([
    weight,
    half("weight_scale"),
    half("input_scale"),
    markerTensor("l", { format: "float8_e4m3fn" }),
  ]);
  for (const { tensors } of [old, marked]) {
    assert.deepEqual([...tensors.keys()], ["l.weight"]);
    assert.deepEqual([...f32(tensors.get("l.weight")!)], [0.5, -0.5, 1, 0]);
  }
});

Deno.test("dequantizeModel() copies the rest and drops what says it is quantized", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  const bytes = tensorOf("tekken_model", "U8", [5], new Uint8Array([9, 8, 7, 6, 5]));
  const empty = tensorOf("__x0__", "F32", [0], new Float32Array(0));
  const metadata = {
    config: '{"a": 1}',
    _quantization_metadata: JSON.stringify({ layers: { l: { format: "int8_tensorwise" } } }),
  };
  const out = await dequantize([...tensors, NORM, bytes, empty], { metadata });
  assert.deepEqual(out.metadata, { config: '{"a": 1}' });
  assert.deepEqual([...out.tensors.keys()].sort(), [
    "__x0__",
    "l.weight",
    "norm.weight",
    "tekken_model",
  ]);
  for (const kept of [NORM, bytes, empty]) assert.deepEqual(out.tensors.get(kept.name), kept);
});

Deno.test("dequantizeModel() rounds to BF16 and F16", async () => {
  const { tensors, encoded } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 4 });
  const bf16 = (await dequantize(tensors, { dtype: "BF16" })).tensors.get("l.weight")!;
  const bits = new Uint16Array(bf16.data.slice().buffer);
  assert.deepEqual([...bits], [...encoded.restored].map(f32ToBf16));
  const f16 = (await dequantize(tensors, { dtype: "F16" })).tensors.get("l.weight")!;
  const halves = new Float16Array(f16.data.slice().buffer);
  assert.deepEqual([...halves], [...new Float16Array(encoded.restored)]);
});

Deno.test("dequantizeModel() refuses F16 if a value does not fit, naming the tensor", async () => {
  const codes = tensorOf("l.weight", "I8", [1, 2], new Int8Array([1, 127]));
  const scale = tensorOf("l.weight_scale", "F32", [1, 1], new Float32Array([1000]));
  const layer = [codes, scale, markerTensor("l", { format: "int8_tensorwise" })];
  await assert.rejects(dequantize(layer, { dtype: "F16" }), /"l\.weight" as F16.*65504/);
  const { tensors } = await dequantize(layer, { dtype: "F32" });
  assert.deepEqual([...f32(tensors.get("l.weight")!)], [1000, 127_000]);
});

Deno.test("dequantizeModel() refuses a model without quantized layers", async () => {
  await assert.rejects(dequantize([NORM]), UnsupportedError);
});

Deno.test("dequantizeModel() leaves nothing if it is interrupted", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  await assert.rejects(dequantize(tensors, { signal: AbortSignal.abort() }), InterruptedError);
});

Deno.test("dequantizeModel() refuses to write over its input, even when forced", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const path = join(folder.path, "in.safetensors");
  writeModel(path, int8Layer("l", VALUES, { rows: ROWS, cols: COLS }).tensors);
  const run = dequantizeModel(openModel(path), { output: path, dtype: "BF16", force: true, pool });
  await assert.rejects(run, UnsupportedError);
});
