import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type DType, f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { markerTensor, randomValues } from "../support/encode.ts";
import { tensorOf } from "../support/model_files.ts";
import { f32, float8Blocks, floats, restore } from "./stored_layers.ts";

interface Stored {
  readonly dtype: DType;
  readonly shape: number[];
  readonly data: string;
}

/** What `scripts/format_vectors.py` wrote: kitchen's own codes, and the values of its eager code. */
const { cases } = JSON.parse(
  readFileSync(new URL("../vectors/formats.json", import.meta.url), "utf8"),
) as {
  cases: {
    name: string;
    marker: Record<string, unknown>;
    tensors: Record<string, Stored>;
    values: Stored;
  }[];
};

const stored = (name: string, { dtype, shape, data }: Stored): Tensor => ({
  name,
  dtype,
  shape,
  data: Uint8Array.from(atob(data), (char) => char.charCodeAt(0)),
});

for (const { name, marker, tensors, values } of cases) {
  Deno.test(`storedMatrix() decodes what comfy-kitchen stores: ${name}`, async () => {
    const layer = Object.entries(tensors).map(([part, tensor]) => stored(`a.b.${part}`, tensor));
    const out = await restore([...layer, markerTensor("a.b", marker)]);
    assert.deepEqual([...out.keys()], ["a.b.weight"]);
    assert.deepEqual(out.get("a.b.weight")!.shape, values.shape);
    const found = f32(out.get("a.b.weight")!), wanted = f32(stored("", values));
    const largest = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    wanted.forEach((value, i) => {
      // Sums of rotations run in another order.
      assert(Math.abs(found[i]! - value) <= 1e-6 * largest, `${i}: ${found[i]} is not ${value}`);
    });
  });
}

const VALUES = randomValues(192 * 160).map((value) => value / 16);

/** FP8 as `name` of its scale, with the rectangle that one scale covers. */
const FLOAT8: readonly {
  part: string;
  block: [number, number];
  shape: number[];
  dtype: "F32" | "BF16" | "F8_E8M0" | "U8";
}[] = [
  { part: "weight_scale_inv", block: [128, 128], shape: [2, 2], dtype: "F32" },
  { part: "weight_scale_inv", block: [128, 128], shape: [2, 2], dtype: "BF16" },
  { part: "scale", block: [192, 160], shape: [], dtype: "F32" },
  { part: "scale", block: [128, 128], shape: [2, 2], dtype: "F8_E8M0" },
  { part: "weight.scale", block: [192, 160], shape: [1], dtype: "F32" },
  { part: "weight_scales", block: [1, 160], shape: [192], dtype: "F32" },
  { part: "fp8_scale", block: [1, 160], shape: [192, 1], dtype: "F32" },
  { part: "scale_weight", block: [1, 32], shape: [192, 5, 1], dtype: "F32" },
  { part: "prism_scale", block: [192, 160], shape: [1, 1], dtype: "F32" },
  { part: "weight_scale", block: [32, 32], shape: [6, 5], dtype: "F32" },
  { part: "weight_scale", block: [1, 32], shape: [192, 5], dtype: "U8" },
];

for (const { part, block: [blockRows, blockCols], shape, dtype } of FLOAT8) {
  Deno.test(`storedMatrix() decodes FP8 with ${part} ${dtype} [${shape}]`, async () => {
    const isPower = dtype !== "F32";
    const { codes, scales, restored } = float8Blocks(VALUES, {
      rows: 192,
      cols: 160,
      blockRows,
      blockCols,
      power: isPower,
    });
    const bytes = dtype === "F32"
      ? scales
      : dtype === "BF16"
      ? Uint16Array.from(scales, f32ToBf16)
      : Uint8Array.from(scales, (scale) => Math.log2(scale) + 127);
    const out = await restore([
      tensorOf("l.weight", "F8_E4M3", [192, 160], codes),
      tensorOf(`l.${part}`, dtype, shape, bytes),
      floats("l.input_scale", [], new Float32Array([1])),
    ]);
    assert.deepEqual([...out.keys()], ["l.weight"]);
    assert.deepEqual(f32(out.get("l.weight")!), restored);
  });
}

Deno.test("storedMatrix() decodes FP8 and INT8 of torchao under the name of the weight", async () => {
  const { codes, scales, restored } = float8Blocks(VALUES, {
    rows: 192,
    cols: 160,
    blockRows: 1,
    blockCols: 160,
  });
  for (
    const [qdata, scale] of [["_weight_qdata", "_weight_scale"], ["weight:qdata", "weight:scale"]]
  ) {
    const out = await restore([
      tensorOf(`l.${qdata}`, "F8_E4M3", [192, 160], codes),
      floats(`l.${scale}`, [192, 1], scales),
    ]);
    assert.deepEqual([...out.keys()], ["l.weight"]);
    assert.deepEqual(f32(out.get("l.weight")!), restored);
  }
  const integers = Int8Array.from(VALUES, (_, i) => (i * 7) % 255 - 127);
  const out = await restore([
    tensorOf("l._weight_qdata", "I8", [192, 160], integers),
    floats("l._weight_scale", [192, 1], scales),
  ]);
  assert.deepEqual(
    f32(out.get("l.weight")!),
    Float32Array.from(integers, (code, i) => code * scales[Math.floor(i / 160)]!),
  );
});

const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

/** Codes 0 to 15 over and over, the even column in the low half of a byte. */
function nibbles(count: number): { codes: number[]; bytes: Uint8Array } {
  const codes = Array.from({ length: count }, (_, i) => (7 * i + (i >> 4)) % 16);
  const bytes = Uint8Array.from(
    { length: count / 2 },
    (_, i) => codes[2 * i]! | codes[2 * i + 1]! << 4,
  );
  return { codes, bytes };
}

Deno.test("storedMatrix() decodes NVFP4 of ModelOpt: low half first, scales row by row", async () => {
  const [rows, cols] = [3, 64], { codes, bytes } = nibbles(rows * cols);
  const scales = Uint8Array.from({ length: rows * 4 }, (_, i) => 0x30 + i); // 0.5 and more
  const out = await restore([
    tensorOf("l.weight", "U8", [rows, cols / 2], bytes),
    tensorOf("l.weight_scale", "F8_E4M3", [rows, 4], scales),
    floats("l.weight_scale_2", [], new Float32Array([0.25])),
    floats("l.input_scale", [], new Float32Array([1])),
  ]);
  assert.deepEqual([...out.keys()], ["l.weight"]);
  const value = (i: number) => {
    const code = scales[Math.floor(i / 16)]!;
    return E2M1[codes[i]!]! * (1 + (code & 7) / 8) * 2 ** ((code >> 3) - 7) * 0.25;
  };
  assert.deepEqual([...f32(out.get("l.weight")!)], codes.map((_, i) => value(i)));
});

Deno.test("storedMatrix() decodes MXFP4 of gpt-oss to [E, N, K], under the name of ComfyUI", async () => {
  const [experts, rows, cols] = [2, 3, 64], count = experts * rows * cols;
  const { codes, bytes } = nibbles(count);
  const exponents = Uint8Array.from({ length: count / 32 }, (_, i) => 120 + i);
  for (const [blocks, scales] of [["p_blocks", "p_scales"], ["p.blocks", "p.scales"]] as const) {
    const out = await restore([
      tensorOf(`mlp.experts.${blocks}`, "U8", [experts, rows, cols / 32, 16], bytes),
      tensorOf(`mlp.experts.${scales}`, "U8", [experts, rows, cols / 32], exponents),
      tensorOf("mlp.experts.p_bias", "BF16", [experts, rows], new Uint16Array(6)),
    ]);
    assert.deepEqual([...out.keys()].sort(), ["mlp.experts.p.weight", "mlp.experts.p_bias"]);
    const weight = out.get("mlp.experts.p.weight")!;
    assert.deepEqual(weight.shape, [experts, rows, cols]);
    const wanted = codes.map((code, i) =>
      E2M1[code]! * 2 ** (exponents[Math.floor(i / 32)]! - 127)
    );
    assert.deepEqual([...f32(weight)], wanted);
  }
});

Deno.test("storedMatrix() decodes banks of experts in INT8 and FP8, named .weight or not", async () => {
  const codes = Int8Array.from({ length: 24 }, (_, i) => i - 12);
  const scales = Float32Array.from({ length: 6 }, (_, i) => (i + 1) / 8);
  const wanted = [...codes].map((code, i) => code * scales[Math.floor(i / 4)]!);
  const marker = markerTensor("e", { format: "int8_tensorwise", num_experts: 2 });
  for (const extra of [[], [marker]]) {
    const out = await restore([
      tensorOf("e.weight", "I8", [2, 3, 4], codes),
      floats("e.weight_scale", [2, 3, 1], scales),
      ...extra,
    ]);
    assert.deepEqual([...f32(out.get("e.weight")!)], wanted);
  }
  const ones = new Uint8Array(24).fill(0x38);
  const out = await restore([
    tensorOf("mlp.experts.gate_up_proj", "F8_E4M3", [2, 3, 4], ones),
    floats("mlp.experts.gate_up_proj_scale", [2, 3, 1], scales),
  ]);
  assert.deepEqual(
    [...f32(out.get("mlp.experts.gate_up_proj")!)],
    [...ones].map((_, i) => scales[Math.floor(i / 4)]!),
  );
});

Deno.test("storedMatrix() takes padding away if the bias says the rows", async () => {
  const { codes, bytes } = nibbles(16 * 32);
  const out = await restore([
    tensorOf("l.weight", "U8", [16, 16], bytes),
    tensorOf("l.weight_scale", "F8_E4M3", [128, 4], new Uint8Array(512).fill(0x38)),
    floats("l.weight_scale_2", [], new Float32Array([1])),
    tensorOf("l.bias", "BF16", [10], new Uint16Array(10)),
    markerTensor("l", { format: "nvfp4" }),
  ]);
  const weight = out.get("l.weight")!;
  assert.deepEqual(weight.shape, [10, 32]);
  // Here the even column is in the high half.
  assert.deepEqual(
    [...f32(weight)],
    codes.slice(0, 320).map((_, i) => E2M1[codes[i ^ 1]!]!),
  );
});

Deno.test("storedMatrix() decodes NVFP4 and FP8 banks with a scale per expert", async () => {
  const [experts, rows, cols] = [2, 128, 32], count = experts * rows * cols;
  const { codes, bytes } = nibbles(count);
  const nvfp4 = await restore([
    tensorOf("e.weight", "U8", [experts, rows, cols / 2], bytes),
    tensorOf("e.weight_scale", "F8_E4M3", [experts, 128, 4], new Uint8Array(1024).fill(0x38)),
    floats("e.weight_scale_2", [2], new Float32Array([1, 2])),
    markerTensor("e", { format: "nvfp4", num_experts: 2 }),
  ]);
  assert.deepEqual(nvfp4.get("e.weight")!.shape, [experts, rows, cols]);
  assert.deepEqual(
    [...f32(nvfp4.get("e.weight")!)],
    codes.map((_, i) => E2M1[codes[i ^ 1]!]! * (i < count / 2 ? 1 : 2)),
  );
  const float8 = await restore([
    tensorOf("e.weight", "F8_E4M3", [2, 1, 2], new Uint8Array(4).fill(0x38)),
    floats("e.weight_scale", [2], new Float32Array([3, 4])),
    markerTensor("e", { format: "float8_e4m3fn", num_experts: 2 }),
  ]);
  assert.deepEqual([...f32(float8.get("e.weight")!)], [3, 3, 4, 4]);
});
