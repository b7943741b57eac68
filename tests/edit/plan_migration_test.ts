import assert from "node:assert/strict";
import { type DType, f32ToBf16 } from "../../src/core/dtype.ts";
import { UnsupportedError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensorOf } from "../support/model_files.ts";
import { encode, int8Layer, markerTensor, randomValues } from "../support/encode.ts";
import { edit, markerOf, migrate } from "./edit_files.ts";

const [ROWS, COLS] = [4, 32];
const VALUES = randomValues(ROWS * COLS);
const PLAIN = { format: "int8_tensorwise" };
const KEY = "_quantization_metadata";
const NORM = tensorOf("norm.weight", "BF16", [3], new Uint16Array([1, 2, 3]));
const rows = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: 1, groupCols: COLS });
const WEIGHT = tensorOf("l.weight", "I8", [ROWS, COLS], rows.codes);

const scale = (shape: number[], values = rows.scales, name = "weight_scale"): Tensor =>
  tensorOf(`l.${name}`, "F32", shape, values);
const f32 = (tensor: Tensor | undefined) => new Float32Array(tensor!.data.slice().buffer);

/** A file that is put right exactly: codes, scales and all else stay what they were. */
async function exactly(
  tensors: readonly Tensor[],
  marker: unknown,
  metadata: Record<string, string> | null = null,
) {
  const result = await migrate([...tensors, NORM], metadata);
  assert.deepEqual(result.report.problems.filter(({ severity }) => severity === "error"), []);
  assert.deepEqual([result.plan.exact, result.plan.requantized.size], [1, 0]);
  assert.deepEqual(markerOf(result.tensors, "l"), marker);
  const weight = tensors.find(({ name }) => name === "l.weight");
  assert.deepEqual(result.tensors.get("l.weight"), weight);
  assert.deepEqual(result.tensors.get("norm.weight"), NORM);
  return result;
}

Deno.test("planMigration() states scales of rows as [N, 1], whatever the file calls them", async () => {
  const forms: (readonly [readonly Tensor[], string])[] = [
    [[scale([ROWS]), markerTensor("l", { format: "int8_axiswise" })], "axiswise"],
    [[scale([ROWS]), markerTensor("l", PLAIN)], "1-D"],
    [[scale([ROWS, 1]), markerTensor("l", {})], "no format"],
    [[scale([ROWS], rows.scales, "scale_weight")], "scale_weight"],
    [[scale([ROWS, 1])], "no marker"],
    [[scale([ROWS, 1]), markerTensor("l", `${JSON.stringify(PLAIN)}\0\0`)], "padded marker"],
    [[scale([ROWS, 1]), markerTensor("l", { params: PLAIN })], "params"],
    [
      [scale([ROWS, 1, 1]), markerTensor("l", { format: "int8_blockwise", group_size: COLS })],
      "3-D",
    ],
  ];
  for (const [parts, what] of forms) {
    const { tensors } = await exactly([WEIGHT, ...parts], PLAIN);
    const stated = tensors.get("l.weight_scale")!;
    assert.deepEqual([stated.dtype, stated.shape], ["F32", [ROWS, 1]], what);
    assert.deepEqual(f32(stated), rows.scales, what);
    assert.deepEqual(
      [...tensors.keys()].sort(),
      ["l.comfy_quant", "l.weight", "l.weight_scale", "norm.weight"],
      what,
    );
  }
});

Deno.test("planMigration() gives codes that are stored under another name that of a weight", async () => {
  const { tensors, report } = await migrate([
    tensorOf("l._weight_qdata", "I8", [ROWS, COLS], rows.codes),
    scale([ROWS, 1], rows.scales, "_weight_scale"),
  ]);
  assert.deepEqual(report.problems, []);
  assert.deepEqual([...tensors.keys()].sort(), ["l.comfy_quant", "l.weight", "l.weight_scale"]);
  assert.deepEqual(tensors.get("l.weight")!.data, WEIGHT.data);
});

Deno.test("planMigration() reads the rotation that stands in nested params", async () => {
  const { tensors, encoded } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 16 });
  const rotation = { convrot: true, convrot_groupsize: 16 };
  const [weight, scales] = tensors;
  const nested = markerTensor("l", { ...PLAIN, params: rotation });
  const result = await exactly([weight!, scales!, nested], { ...PLAIN, ...rotation });
  assert.deepEqual(f32(result.tensors.get("l.weight_scale")), encoded.scales);
  const twofold = markerTensor("l", { ...PLAIN, convrot: false, params: rotation });
  await assert.rejects(
    migrate([weight!, scales!, twofold]),
    /"l": marker-params: .*differ in "convrot"/,
  );
});

Deno.test("planMigration() repeats one scale per row if the loader needs rows", async () => {
  const grid = { rows: ROWS, cols: COLS, groupRows: ROWS, groupCols: COLS, convrot: 16 };
  const whole = encode(VALUES, grid);
  const weight = tensorOf("l.weight", "I8", [ROWS, COLS], whole.codes);
  const object = { ...PLAIN, convrot: true, convrot_groupsize: 16 };
  const { tensors } = await exactly([
    weight,
    scale([], whole.scales),
    markerTensor("l", object),
  ], object);
  assert.deepEqual(tensors.get("l.weight_scale")!.shape, [ROWS, 1]);
  assert.deepEqual([...f32(tensors.get("l.weight_scale"))], new Array(ROWS).fill(whole.scales[0]));
  const tall = encode(VALUES.subarray(0, 32), { rows: 8, cols: 4, groupRows: 4, groupCols: 4 });
  const blocks = await exactly([
    tensorOf("l.weight", "I8", [8, 4], tall.codes),
    scale([2, 1], tall.scales),
    markerTensor("l", { format: "int8_blockwise", group_size: 4, keep: 1 }),
  ], { ...PLAIN, keep: 1 });
  const [a, b] = tall.scales;
  assert.deepEqual([...f32(blocks.tensors.get("l.weight_scale"))], [a, a, a, a, b, b, b, b]);
});

Deno.test("planMigration() widens scales to F32 if that changes no value", async () => {
  const bits = Uint16Array.from(rows.scales, f32ToBf16);
  const { tensors } = await exactly([
    WEIGHT,
    tensorOf("l.weight_scale", "BF16", [ROWS], bits),
    markerTensor("l", PLAIN),
  ], PLAIN);
  const wide = new Uint32Array(tensors.get("l.weight_scale")!.data.slice().buffer);
  assert.deepEqual([...wide], [...bits].map((half) => (half << 16) >>> 0));
});

Deno.test("planMigration() puts the header metadata right too", async () => {
  const metadata = {
    config: "{}",
    [KEY]: JSON.stringify({ format_version: "1.0", layers: { l: { format: "int8_axiswise" } } }),
  };
  for (const markers of [[], [markerTensor("l", { format: "int8_axiswise" })]]) {
    const result = await exactly([WEIGHT, scale([ROWS]), ...markers], PLAIN, metadata);
    assert.deepEqual(JSON.parse(result.metadata![KEY]!).layers, { l: PLAIN });
    assert.equal(result.metadata!["config"], "{}");
  }
});

Deno.test("planMigration() renames the old layout in full and drops what announces FP8", async () => {
  const old = [
    WEIGHT,
    scale([ROWS], rows.scales, "scale_weight"),
    scale([], new Float32Array([1]), "scale_input"),
    tensorOf("scaled_fp8", "F8_E4M3", [0], new Uint8Array(0)),
  ];
  const { tensors } = await exactly(old, PLAIN);
  assert.deepEqual([...tensors.keys()].sort(), [
    "l.comfy_quant",
    "l.input_scale",
    "l.weight",
    "l.weight_scale",
    "norm.weight",
  ]);
});

Deno.test("planMigration() marks FP8 weights, and leaves those that scaled_fp8 announces", async () => {
  const codes: [string, DType, number[], Uint8Array] = [
    "l.weight",
    "F8_E4M3",
    [2, 2],
    new Uint8Array([0x38, 0xb8, 0x40, 0]),
  ];
  const parts = [tensorOf(...codes), scale([1], new Float32Array([0.5]), "scale_weight")];
  const { tensors } = await exactly(parts, { format: "float8_e4m3fn" });
  assert.deepEqual(tensors.get("l.weight_scale")!.shape, []);
  const announced = tensorOf("scaled_fp8", "F8_E4M3", [0], new Uint8Array(0));
  const { plan } = await migrate([...parts, announced]);
  assert.deepEqual(plan.edited.operations, []);
});

Deno.test("planMigration() rounds blocks once more, by rows with rotation, and says what that adds", async () => {
  const [n, k] = [8, 64];
  const values = randomValues(n * k, 3);
  const forms = [
    { groupRows: 4, groupCols: 4, shape: [2, 16], size: 4 },
    { groupRows: 1, groupCols: 16, shape: [8, 4, 1], size: 16 },
  ];
  for (const { groupRows, groupCols, shape, size } of forms) {
    const encoded = encode(values, { rows: n, cols: k, groupRows, groupCols });
    const marker = { format: "int8_blockwise", group_size: size, full_precision_matrix_mult: true };
    const result = await migrate([
      tensorOf("l.weight", "I8", [n, k], encoded.codes),
      scale(shape, encoded.scales),
      markerTensor("l", marker),
      NORM,
    ]);
    assert(result.report.loads, JSON.stringify(result.report.problems));
    assert.deepEqual(markerOf(result.tensors, "l"), {
      full_precision_matrix_mult: true,
      ...PLAIN,
      convrot: true,
      convrot_groupsize: 64,
    });
    assert.deepEqual(result.tensors.get("l.weight_scale")!.shape, [n, 1]);
    assert.deepEqual(result.tensors.get("norm.weight"), NORM);
    const [layer] = result.layers;
    assert.equal(layer?.name, "l.weight");
    // Against the values that were stored, not against codes: about 40 dB, neither garbage nor exact.
    assert(layer!.errors.sqnrDb! > 35 && layer!.errors.sqnrDb! < 60, `${layer!.errors.sqnrDb}`);
  }
});

Deno.test("planMigration() changes nothing in a file that loads", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 16 });
  const scalar = [WEIGHT, scale([1], new Float32Array([1])), markerTensor("l", PLAIN)];
  for (const model of [tensors, scalar]) {
    const { plan } = await migrate([...model, NORM]);
    assert.deepEqual([plan.edited.operations, plan.untouched], [[], 1]);
  }
});

Deno.test("planMigration() refuses what the file alone cannot put right, naming layer and rule", async () => {
  const marker = markerTensor("l", PLAIN);
  const one = (name: string, shape: number[]) =>
    tensorOf(`l.${name}`, "F32", shape, new Float32Array(shape[0] ?? 1).fill(1));
  const cases: (readonly [readonly Tensor[], RegExp])[] = [
    [[WEIGHT, marker], /"l": scale-missing/],
    [[WEIGHT, scale([ROWS]), marker, one("pre_quant_scale", [COLS])], /"l": pre-quant-scale/],
    [[WEIGHT, scale([ROWS]), markerTensor("l", { format: "int8_new" })], /"l": format-unknown/],
    [[WEIGHT, scale([1, ROWS]), marker], /"l": scale-shape: scales of shape \[1, 4\]/],
    [[WEIGHT, scale([ROWS]), markerTensor("l", "{")], /"l": marker-malformed/],
    [
      [WEIGHT, scale([ROWS]), markerTensor("l", { ...PLAIN, convrot: true, convrot_groupsize: 3 })],
      /"l": marker-fields/,
    ],
    [[WEIGHT, scale([ROWS], new Float32Array([1, NaN, 1, 1])), marker], /"l": scale-not-finite/],
    [
      [WEIGHT, scale([ROWS]), marker, tensorOf("x.weight", "I8", [2, 2], new Int8Array(4))],
      /"x": unmarked-int8-weight/,
    ],
    [[WEIGHT, scale([ROWS]), marker, markerTensor("gone", PLAIN)], /"gone": marker-without-weight/],
    [[NORM], /no quantized layers/],
  ];
  for (const [tensors, message] of cases) {
    await assert.rejects(migrate(tensors), (error: Error) => {
      assert(error instanceof UnsupportedError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("planMigration() refuses metadata and markers that contradict each other, edit resolves it", async () => {
  const tensors = [WEIGHT, scale([ROWS]), markerTensor("l", { ...PLAIN, convrot: true })];
  const metadata = { [KEY]: JSON.stringify({ layers: { l: PLAIN } }) };
  await assert.rejects(migrate(tensors, metadata), /"l": metadata-disagrees/);
  const resolved = await edit(tensors, { markers: true }, metadata);
  const { report } = await migrate([...resolved.tensors.values()], { ...resolved.metadata });
  assert(report.loads);
});
