import assert from "node:assert/strict";
import { join } from "node:path";
import type { Tensor } from "../../src/core/tensor.ts";
import { InterruptedError } from "../../src/core/errors.ts";
import { verifyModel, type VerifyReport } from "../../src/verify/verify.ts";
import { type SourceReport, verifyAgainstSource } from "../../src/verify/verify_source.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { encode, int8Layer, markerTensor, randomValues, WORKER_URL } from "../support/encode.ts";

const ROWS = 6;
const COLS = 32;
const VALUES = randomValues(ROWS * COLS);
const bf16 = (name: string, values: Float32Array, shape = [values.length]) =>
  tensorOf(name, "BF16", shape, Uint16Array.from(values, f32ToBf16));
const NORM = bf16("norm.weight", randomValues(COLS, 7));
const SOURCE: Tensor[] = [tensorOf("l.weight", "F32", [ROWS, COLS], VALUES), NORM];

/** Writes the models and opens them with a pool. */
async function withModels<T>(
  models: readonly (readonly Tensor[])[],
  use: (opened: ReturnType<typeof openModel>[], pool: WorkerPool) => Promise<T>,
): Promise<T> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 1);
  const opened = models.map((tensors, index) => {
    const path = join(folder.path, `${index}.safetensors`);
    writeModel(path, tensors);
    return openModel(path);
  });
  return await use(opened, pool);
}

const verify = (tensors: readonly Tensor[]): Promise<VerifyReport> =>
  withModels([tensors], ([model], pool) => verifyModel(model!, pool));

const compare = (stored: readonly Tensor[], source: readonly Tensor[]): Promise<SourceReport> =>
  withModels([stored, source], ([a, b], pool) => verifyAgainstSource(a!, b!, { pool }));

/** A good file whose scale is replaced. */
function withScales(scales: Float32Array, codes?: Int8Array): Tensor[] {
  const { encoded } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  return [
    tensorOf("l.weight", "I8", [ROWS, COLS], codes ?? encoded.codes),
    tensorOf("l.weight_scale", "F32", scales.length === 1 ? [] : [ROWS, 1], scales),
    markerTensor("l", { format: "int8_tensorwise" }),
  ];
}

Deno.test("verifyModel() lets a good file pass and says what it read", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 16 });
  const all = [...tensors, NORM];
  const report = await verify(all);
  assert.deepEqual(report, {
    loads: true,
    problems: [],
    quantized: { int8_tensorwise: 1 },
    tensors: 4,
    checkedBytes: all.reduce((sum, { data }) => sum + data.length, 0),
  });
});

Deno.test("verifyModel() checks scales value by value", async () => {
  const { encoded: { scales } } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  for (
    const [value, rule] of [
      [NaN, "scale-not-finite"],
      [-Infinity, "scale-not-finite"],
      [-1, "scale-negative"],
      [0, "scale-zero"],
    ] as const
  ) {
    const bad = scales.slice();
    bad[4] = value;
    const { loads, problems } = await verify(withScales(bad));
    assert.deepEqual([loads, problems.map((problem) => problem.rule)], [false, [rule]]);
    assert.match(problems[0]!.detail, /^1 of the 6 values of l\.weight_scale/);
  }
});

Deno.test("verifyModel() lets a scale of zero pass if its codes are zero", async () => {
  const { encoded: { scales, codes } } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  scales[4] = 0;
  codes.fill(0, 4 * COLS, 5 * COLS);
  assert.deepEqual((await verify(withScales(scales, codes))).problems, []);
  const whole = withScales(new Float32Array([0]), new Int8Array(ROWS * COLS));
  assert.deepEqual((await verify(whole)).problems, []);
});

Deno.test("verifyModel() warns of NaN in kept tensors, and fails quantized ones", async () => {
  const mask = tensorOf("mask", "F32", [2], new Float32Array([0, -Infinity]));
  const kept = await verify([mask]);
  assert.deepEqual(
    [kept.loads, kept.problems.map(({ rule, severity }) => [rule, severity])],
    [true, [["values-not-finite", "warning"]]],
  );
  assert.match(kept.problems[0]!.detail, /1 NaN .* index 1$/);
  const codes = new Uint8Array(8);
  codes[3] = 0x7f; // NaN of F8_E4M3
  const fp8 = await verify([
    tensorOf("l.weight", "F8_E4M3", [2, 4], codes),
    tensorOf("l.weight_scale", "F32", [], new Float32Array([1])),
    markerTensor("l", { format: "float8_e4m3fn" }),
  ]);
  assert.deepEqual([fp8.loads, fp8.problems.map(({ layer }) => layer)], [false, ["l"]]);
});

Deno.test("verifyModel() puts errors before warnings and counts every format", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  const mask = tensorOf("a.mask", "F32", [1], new Float32Array([NaN]));
  const bare = tensorOf("z.weight", "I8", [2, 2], new Int8Array(4));
  const old = tensorOf("z.scale_weight", "F32", [], new Float32Array([1]));
  const report = await verify([mask, ...tensors, bare, old]);
  assert.deepEqual(report.problems.map(({ severity }) => severity), ["error", "warning"]);
  assert.deepEqual(report.quantized, { int8_tensorwise: 1, "I8 scale_weight": 1 });
});

Deno.test("verifyModel() stops when it is interrupted", async () => {
  const run = withModels(
    [SOURCE],
    ([model], pool) => verifyModel(model!, pool, { signal: AbortSignal.abort() }),
  );
  await assert.rejects(run, InterruptedError);
});

Deno.test("verifyAgainstSource() gives the errors of every layer, in original space", async () => {
  for (const convrot of [undefined, 16]) {
    const options = { rows: ROWS, cols: COLS, ...(convrot === undefined ? {} : { convrot }) };
    const { tensors, encoded } = int8Layer("l", VALUES, options);
    const report = await compare([...tensors, NORM], SOURCE);
    assert.deepEqual([report.matches, report.problems, report.identical], [true, [], 1]);
    let error = 0;
    let signal = 0;
    VALUES.forEach((value, i) => {
      error += (value - encoded.restored[i]!) ** 2;
      signal += value ** 2;
    });
    const { errors } = report.layers[0]!;
    const relative = Math.sqrt(error / signal);
    assert(relative > 0.001 && relative < 0.01, `${relative}`);
    assert(Math.abs(errors.relativeError / relative - 1) < 1e-4);
    assert(Math.abs(errors.sqnrDb! - 10 * Math.log10(signal / error)) < 1e-3);
    assert.deepEqual(report.overall, errors);
  }
});

Deno.test("verifyAgainstSource() reads every stored form as what it stands for", async () => {
  const tiles = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: 2, groupCols: 2 });
  const whole = encode(VALUES, { rows: ROWS, cols: COLS, groupRows: ROWS, groupCols: COLS });
  const weight = (codes: Int8Array) => tensorOf("l.weight", "I8", [ROWS, COLS], codes);
  const forms: Tensor[][] = [
    [
      weight(tiles.codes),
      tensorOf("l.weight_scale", "F32", [ROWS / 2, COLS / 2], tiles.scales),
      markerTensor("l", { format: "int8_blockwise", group_size: 2 }),
    ],
    [weight(whole.codes), tensorOf("l.scale_weight", "F32", [], whole.scales)],
    [
      weight(whole.codes),
      tensorOf("l.weight_scale", "F32", [1], whole.scales),
      markerTensor("l", { format: "int8_tensorwise" }),
    ],
  ];
  for (const form of forms) {
    const { matches, layers } = await compare([...form, NORM], SOURCE);
    assert(matches);
    assert(layers[0]!.errors.relativeError < 0.01);
  }
});

Deno.test("verifyAgainstSource() finds no error if both are the same quantized file", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 16 });
  const { matches, overall } = await compare(tensors, tensors);
  assert.deepEqual([matches, overall!.sqnrDb, overall!.relativeError], [true, null, 0]);
});

Deno.test("verifyAgainstSource() finds codes that are read in the wrong space", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 16 });
  const unmarked = tensors.map((tensor) =>
    tensor.name === "l.comfy_quant" ? markerTensor("l", { format: "int8_tensorwise" }) : tensor
  );
  const { matches, problems } = await compare([...unmarked, NORM], SOURCE);
  assert.deepEqual([matches, problems.map(({ rule }) => rule)], [false, ["weights-differ"]]);
});

Deno.test("verifyAgainstSource() finds one changed byte of a kept tensor", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  const data = NORM.data.slice();
  data[5]! ^= 1;
  const { matches, problems, identical } = await compare([...tensors, { ...NORM, data }], SOURCE);
  assert.deepEqual([matches, identical], [false, 0]);
  assert.match(problems[0]!.detail, /^1 of its 64 bytes/);
  assert.equal(problems[0]!.rule, "kept-differs");
});

Deno.test("verifyAgainstSource() holds cast tensors to what their dtype can keep", async () => {
  const cast = bf16("l.weight", VALUES, [ROWS, COLS]);
  const good = await compare([cast, NORM], SOURCE);
  assert.deepEqual([good.matches, good.cast.length, good.layers.length], [true, 1, 0]);
  const off = bf16("l.weight", VALUES.map((value) => value * 1.02), [ROWS, COLS]);
  const bad = await compare([off, NORM], SOURCE);
  assert.deepEqual([bad.matches, bad.problems.map(({ rule }) => rule)], [false, ["cast-differs"]]);
});

Deno.test("verifyAgainstSource() reports tensors that are missing, new or of another shape", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  const extra = bf16("extra.weight", new Float32Array(3));
  const missing = await compare([...tensors, extra], SOURCE);
  assert.deepEqual(missing.problems.map(({ layer, rule, severity }) => [layer, rule, severity]), [
    ["norm.weight", "tensor-missing", "error"],
    ["extra.weight", "tensor-added", "warning"],
  ]);
  const wide = bf16("norm.weight", new Float32Array(COLS + 1));
  const other = await compare([...tensors, wide], SOURCE);
  assert.deepEqual(other.problems.map(({ rule }) => rule), ["shape-differs"]);
  const integer = tensorOf("norm.weight", "I16", [COLS], new Int16Array(COLS));
  const typed = await compare([...tensors, integer], SOURCE);
  assert.deepEqual(typed.problems.map(({ rule }) => rule), ["dtype-differs"]);
});

Deno.test("verifyAgainstSource() lets go what a family does not use", async () => {
  const t5 = [
    bf16("encoder.block.23.layer.1.DenseReluDense.wi_1.weight", VALUES, [ROWS, COLS]),
    bf16("encoder.block.0.layer.1.DenseReluDense.wi.weight", VALUES, [ROWS, COLS]),
    bf16("encoder.block.0.layer.0.SelfAttention.k.weight", VALUES, [ROWS, COLS]),
    bf16("shared.weight", VALUES, [ROWS, COLS]),
  ];
  const head = bf16("lm_head.weight", VALUES, [ROWS, COLS]);
  const { matches, problems } = await compare(t5, [...t5, head]);
  assert.deepEqual([matches, problems], [true, []]);
});

Deno.test("verifyAgainstSource() reports how far a changed float tensor is from its source", async () => {
  const half = tensorOf("l.weight", "F32", [ROWS, COLS], VALUES.map((value) => value * 0.5));
  const { matches, changed, layers } = await compare([half, NORM], SOURCE);
  assert.deepEqual([matches, layers.length, changed.map(({ name }) => name)], [
    false,
    0,
    ["l.weight"],
  ]);
  assert(Math.abs(changed[0]!.errors.relativeError - 0.5) < 1e-6);
});

Deno.test("verifyAgainstSource() compares expert banks [E, N, K]", async () => {
  const { encoded } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS, convrot: 4 });
  const stored = [
    tensorOf("l.weight", "I8", [2, ROWS / 2, COLS], encoded.codes),
    tensorOf("l.weight_scale", "F32", [2, ROWS / 2, 1], encoded.scales),
    markerTensor("l", { format: "int8_tensorwise", convrot: true, convrot_groupsize: 4 }),
  ];
  const source = [tensorOf("l.weight", "F32", [2, ROWS / 2, COLS], VALUES)];
  const { matches, layers } = await compare(stored, source);
  assert(matches);
  assert(layers[0]!.errors.relativeError > 0 && layers[0]!.errors.relativeError < 0.01);
});

Deno.test("verifyAgainstSource() says why a layer cannot be compared", async () => {
  const { tensors } = int8Layer("l", VALUES, { rows: ROWS, cols: COLS });
  const factors = tensorOf("l.pre_quant_scale", "F32", [COLS], new Float32Array(COLS));
  const { matches, problems } = await compare([...tensors, NORM, factors], SOURCE);
  assert.deepEqual([matches, problems.map(({ rule }) => rule)], [
    false,
    ["not-comparable"],
  ]);
  assert.match(problems[0]!.detail, /pre_quant_scale/);
});
