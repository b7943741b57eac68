import { describeNote } from "../../src/run/layer_notes.ts";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { decodeFloats } from "../../src/lora/decode_floats.ts";
import { UsageError } from "../../src/core/errors.ts";
import { convertToInt8 } from "../../src/convert/convert_to_int8.ts";
import { GPTQInt8Converter } from "../../src/library/gptq_int8_converter.ts";
import { quipInt8Matmul } from "../../src/library/int8.ts";
import { LearnedRoundingConverter } from "../../src/library/learned_rounding_converter.ts";
import { QuIPInt8Converter } from "../../src/library/quip_int8_converter.ts";
import { bytesOf } from "../../src/core/bytes.ts";
import { DEFAULT_LEARNED_OPTIONS } from "../../src/quant/learned/options.ts";
import { UnifiedSafetensorsLoader } from "../../src/safetensors/loader.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";

const ROWS = 520, COLS = 256, NAME = "blocks.0.lin.weight";
const LAYER = syntheticLayer({ rows: ROWS, cols: COLS, seed: 4 });
const WEIGHT = { data: LAYER.weight, rows: ROWS, cols: COLS, name: NAME };
const INPUTS = { activations: LAYER.inputs(200, 1) };

/** Relative error of the outputs for inputs that no method has seen. */
function outputError(dequantized: Float32Array): number {
  const x = LAYER.inputs(64, 2);
  let error = 0, signal = 0;
  for (let t = 0; t < 64; t++) {
    for (let r = 0; r < ROWS; r++) {
      let exact = 0, lost = 0;
      for (let k = 0; k < COLS; k++) {
        const w = LAYER.weight[r * COLS + k]!, value = x[t * COLS + k]!;
        exact += value * w;
        lost += value * (w - dequantized[r * COLS + k]!);
      }
      error += lost * lost;
      signal += exact * exact;
    }
  }
  return Math.sqrt(error / signal);
}

Deno.test("converters give the codes and scales of a conversion by the same method", async (t) => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), data = join(folder.path, "data.safetensors");
  writeModel(input, [tensorOf(NAME, "F32", [ROWS, COLS], LAYER.weight)]);
  writeModel(data, [
    tensorOf("blocks.0.lin.activations", "F32", [200, COLS], INPUTS.activations),
  ]);
  const learned = { iterations: 12, minDirections: 8 };
  const quip = { storeTransformed: true, requantScheme: "tensor", perRow: true, seed: 3 } as const;
  const cases = [
    ["gptq, rotated", {}, new GPTQInt8Converter()],
    [
      "gptq, one scale",
      { scaling: "tensor", convrot: "off" },
      new GPTQInt8Converter({ scaling: "tensor" }),
    ],
    ["quip, original space", { method: "quip" }, new QuIPInt8Converter()],
    ["quip, rotated", { method: "quip", convrot: 64 }, new QuIPInt8Converter({ convrot: 64 })],
    ["quip, transformed", { method: "quip", quip }, new QuIPInt8Converter(quip)],
    [
      "learned",
      { method: "radam", scaling: "row", learned: { ...DEFAULT_LEARNED_OPTIONS, ...learned } },
      new LearnedRoundingConverter({ optimizer: "radam", scaling: "row", ...learned }),
    ],
  ] as const;
  for (const [name, options, converter] of cases) {
    for (const given of [INPUTS, {}]) {
      await t.step(`${name}${given === INPUTS ? "" : ", without data"}`, async () => {
        const outputPath = join(folder.path, "out.safetensors");
        const calibrationPath = given === INPUTS ? data : null;
        const request = { input, outputPath, calibrationPath, force: true, workers: 2 };
        const { layers } = await convertToInt8({ ...request, ...options, measure: false });
        const found = converter.convert(WEIGHT, given);
        using file = new UnifiedSafetensorsLoader(outputPath);
        assert.deepEqual(bytesOf(found.codes), file.getTensor(NAME).data);
        const stored = file.getTensor(`${NAME}_scale`);
        assert.deepEqual(bytesOf(found.scale), stored.data);
        assert.deepEqual(found.scaleShape, stored.shape);
        assert.equal(found.note, describeNote(layers[0]!.note, layers[0]!.compensated));
        assert.ok(Math.abs(found.errors.relativeError - layers[0]!.errors.relativeError) < 1e-9);
      });
    }
  }
});

Deno.test("converters say what the layer computes: dequantized in original space, codes in theirs", () => {
  const plain = new QuIPInt8Converter({ convrot: 256 }).convert(WEIGHT);
  const before = outputError(plain.dequantized);
  for (
    const converter of [
      new GPTQInt8Converter(),
      new QuIPInt8Converter({ convrot: 256 }),
      new QuIPInt8Converter({ storeTransformed: true }),
    ]
  ) {
    const found = converter.convert(WEIGHT, INPUTS);
    const error = outputError(found.dequantized);
    assert.ok(error < 0.9 * before, `${error}, ${before} without data`);
    const x = LAYER.inputs(1, 5);
    const y = quipInt8Matmul(x, { ...found, scales: found.scale });
    const exact = Array.from(
      { length: ROWS },
      (_, r) => x.reduce((sum, value, k) => sum + value * found.dequantized[r * COLS + k]!, 0),
    );
    const scale = Math.sqrt(exact.reduce((sum, value) => sum + value * value, 0));
    const off = Math.sqrt(exact.reduce((sum, value, r) => sum + (value - y[r]!) ** 2, 0));
    assert.ok(off < 0.05 * scale, `${found.space.kind}: ${off / scale}`);
  }
});

Deno.test("converters take second moments and channel magnitudes, and report which they used", () => {
  const hessian = new Float64Array(COLS * COLS), x = INPUTS.activations;
  const channelMax = new Float32Array(COLS);
  for (let t = 0; t < 200; t++) {
    for (let i = 0; i < COLS; i++) {
      channelMax[i] = Math.max(channelMax[i]!, Math.abs(x[t * COLS + i]!));
      for (let j = 0; j < COLS; j++) hessian[i * COLS + j]! += x[t * COLS + i]! * x[t * COLS + j]!;
    }
  }
  const converter = new GPTQInt8Converter();
  const plain = outputError(converter.convert(WEIGHT).dequantized);
  for (const [inputs, note] of [[{ hessian }, /hessian/], [{ channelMax }, /channels/]] as const) {
    const found = converter.convert(WEIGHT, inputs);
    assert.match(found.note!, note);
    assert.ok(outputError(found.dequantized) < 0.95 * plain);
  }
  const unrotated = new GPTQInt8Converter({ convrot: "off" }).convert(WEIGHT, { channelMax });
  assert.match(unrotated.note!, /rounded to nearest: the Hessian is diagonal/);
});

Deno.test("converters refuse what does not fit, naming it", () => {
  const converter = new GPTQInt8Converter();
  const refuse = (inputs: object, message: RegExp) =>
    assert.throws(() => converter.convert(WEIGHT, inputs), { message });
  refuse(
    { activations: new Float32Array(COLS + 1) },
    /activations: it has 257 elements, needs rows/,
  );
  refuse({ hessian: new Float32Array(9) }, /hessian: it has 9 elements, needs 256 x 256/);
  refuse(
    { channelMax: new Float32Array(9) },
    /channelMax: it has 9 elements, needs one row of 256/,
  );
  refuse(
    { hessian: new Float32Array(9), channelMax: new Float32Array(9) },
    /give the best of them/,
  );
  const bad = new Float64Array(COLS * COLS);
  bad[COLS + 1] = -1;
  refuse({ hessian: bad }, /hessian of blocks\.0\.lin\.weight.*hessian\[1, 1\] is -1/);
  assert.throws(
    () => converter.convert({ ...WEIGHT, rows: 3 }),
    /133120 values are not \[3, 256\]/,
  );
  assert.throws(() => new GPTQInt8Converter({ convrot: 48 }).convert(WEIGHT), /power of 4/);
  assert.throws(() => new GPTQInt8Converter({ convrot: 1024 }).convert(WEIGHT), UsageError);
  assert.throws(
    () => new GPTQInt8Converter({ scaling: "block" }).convert(WEIGHT),
    /\[520, 256\] is not divisible into 128 x 128 blocks/,
  );
  const data = LAYER.weight.slice();
  data[COLS] = Infinity;
  assert.throws(
    () => converter.convert({ ...WEIGHT, data }, INPUTS),
    /"blocks\.0\.lin\.weight": 1 values are not finite, the first at index 256/,
  );
});

Deno.test("what a loader returns goes into a converter, and its result into an operation, as it is", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "model.safetensors");
  const bits = Uint16Array.from(LAYER.weight, f32ToBf16);
  writeModel(path, [tensorOf(NAME, "BF16", [ROWS, COLS], bits)]);
  using loader = new UnifiedSafetensorsLoader(path);
  const tensor = loader.getTensor(NAME);
  const found = new GPTQInt8Converter().convert(tensor);
  const data = decodeFloats(tensor);
  const same = new GPTQInt8Converter().convert({ data, rows: ROWS, cols: COLS, name: NAME });
  assert.equal(Buffer.compare(bytesOf(found.codes), bytesOf(same.codes)), 0);
  assert.equal(quipInt8Matmul(LAYER.inputs(1, 5), found).length, ROWS);
  assert.throws(
    () => new GPTQInt8Converter().convert(tensor, { H: data } as object),
    /Unknown option "H" of the inputs of a layer: it is hessian here/,
  );
});

Deno.test("converters refuse options that they do not have, naming what was meant", () => {
  const make = (options: object) => [
    () => new GPTQInt8Converter(options),
    () => new QuIPInt8Converter(options),
    () => new LearnedRoundingConverter(options),
  ];
  for (const construct of make({ blockSize: 0 })) {
    assert.throws(construct, /Cannot use 0 for blockSize: a whole number from 1/);
  }
  for (const construct of make({ blokSize: 64 })) {
    assert.throws(construct, /Unknown option "blokSize" of \w+: the nearest is blockSize/);
  }
});
