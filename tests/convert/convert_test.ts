import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import {
  bf16ToF32,
  type DType,
  f16ToF32,
  f32ToBf16,
  f32ToF16,
  f8e4m3ToF32,
  f8e5m2ToF32,
} from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel, type ConvertRequest } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { rotateExplicitly, rtn } from "../support/rtn_oracle.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

function convert(
  input: string,
  output: string,
  options: Partial<ConvertOptions>,
  request: Partial<ConvertRequest> = {},
) {
  return convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER,
    workers: 2,
    force: true,
    ...request,
  });
}

/** Deterministic deviates: a 32-bit LCG folded to a heavy-tailed shape. */
function deviates(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
  return Float32Array.from({ length: count }, () => {
    const u = next();
    return 0.04 * u / Math.max(0.02, 0.5 - Math.abs(u));
  });
}

/** Values with everything that trips a quantizer: zero rows, -0, subnormals, exact ties, outliers. */
function awkward(rows: number, cols: number, seed: number): Float32Array {
  const w = deviates(rows * cols, seed);
  for (let c = 0; c < cols; c++) {
    if (rows > 1) w[cols + c] = c % 2 === 0 ? 0 : -0;
    if (rows > 2) w[2 * cols + c] = c === 0 ? 127 : (c % 100) - 50 + 0.5; // scale 1: exact ties
    if (rows > 3) w[3 * cols + c] = 1e-40 * (c - 3);
  }
  if (rows > 4) w[4 * cols] = 300;
  return w;
}

/** The bytes of `values` in `dtype`, and the f32 values those bytes stand for. */
function encode(
  values: Float32Array,
  dtype: DType,
): { bytes: ArrayBufferView; values: Float32Array } {
  switch (dtype) {
    case "F64": {
      const wide = Float64Array.from(values, (v) => v * (1 + 2 ** -40));
      return { bytes: wide, values: Float32Array.from(wide) };
    }
    case "F16": {
      const bits = Uint16Array.from(values, f32ToF16);
      return { bytes: bits, values: Float32Array.from(bits, f16ToF32) };
    }
    case "BF16": {
      const bits = Uint16Array.from(values, f32ToBf16);
      return { bytes: bits, values: Float32Array.from(bits, bf16ToF32) };
    }
    case "F8_E4M3": {
      const bits = Uint8Array.from(
        values,
        (_, i) => (i * 37 + 11) % 127 | (i % 3 === 0 ? 0x80 : 0),
      );
      return { bytes: bits, values: Float32Array.from(bits, f8e4m3ToF32) };
    }
    case "F8_E5M2": {
      const bits = Uint8Array.from(values, (_, i) => (i * 29 + 5) % 124 | (i % 5 === 0 ? 0x80 : 0));
      return { bytes: bits, values: Float32Array.from(bits, f8e5m2ToF32) };
    }
    default:
      return { bytes: values, values };
  }
}

const DTYPES: readonly DType[] = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"];
const SHAPES = [[1, 1], [3, 5], [7, 33], [5, 1], [64, 64], [130, 257], [128, 384]] as const;

function codesOf(model: Map<string, Tensor>, name: string): Int8Array {
  const { data, dtype } = model.get(`${name}.weight`)!;
  assert.equal(dtype, "I8");
  return new Int8Array(data.buffer, data.byteOffset, data.length);
}

function scalesOf(
  model: Map<string, Tensor>,
  name: string,
): { values: Float32Array; shape: readonly number[] } {
  const { data, shape, dtype } = model.get(`${name}.weight_scale`)!;
  assert.equal(dtype, "F32");
  return { values: new Float32Array(data.slice().buffer), shape };
}

Deno.test("convertModel() rounds to nearest bit for bit, for every dtype, shape and scaling", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const tensors: Tensor[] = [];
  const sources = new Map<string, { values: Float32Array; rows: number; cols: number }>();
  for (const dtype of DTYPES) {
    for (const [rows, cols] of SHAPES) {
      const name = `${dtype}.${rows}x${cols}`;
      const { bytes, values } = encode(awkward(rows, cols, rows * 1000 + cols), dtype);
      tensors.push(tensorOf(`${name}.weight`, dtype, [rows, cols], bytes));
      sources.set(name, { values, rows, cols });
    }
  }
  writeModel(input, tensors);
  for (const scaling of ["row", "tensor", "block"] as const) {
    const output = join(folder.path, `${scaling}.safetensors`);
    await convert(input, output, { method: "simple", scaling, blockSize: 64 });
    const model = readModel(output);
    for (const [name, { values, rows, cols }] of sources) {
      const blocks = scaling === "block" && rows % 64 === 0 && cols % 64 === 0;
      const groupRows = scaling === "tensor" ? rows : blocks ? 64 : 1;
      const groupCols = blocks ? 64 : cols;
      const want = rtn(values, { rows, cols, groupRows, groupCols });
      const scales = scalesOf(model, name);
      assert.deepEqual(scales.values, want.scales, `${scaling} scales of ${name}`);
      assert.deepEqual(codesOf(model, name), want.codes, `${scaling} codes of ${name}`);
      const shape = scaling === "tensor" ? [] : blocks ? [rows / 64, cols / 64] : [rows, 1];
      assert.deepEqual(scales.shape, shape);
    }
  }
});

Deno.test("convertModel() streams a row of more than a chunk and gives the same codes", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const cols = (1 << 20) + 77;
  const { bytes, values } = encode(deviates(2 * cols, 5), "BF16");
  writeModel(input, [tensorOf("long.weight", "BF16", [2, cols], bytes)]);
  const output = join(folder.path, "out.safetensors");
  await convert(input, output, { method: "simple", scaling: "row" });
  const want = rtn(values, { rows: 2, cols, groupRows: 1, groupCols: cols });
  const model = readModel(output);
  assert.deepEqual(scalesOf(model, "long").values, want.scales);
  assert.ok(codesOf(model, "long").every((code, i) => code === want.codes[i]));
});

Deno.test("convertModel() rotates, searches the scale, and beats rotation with absmax scales", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const shapes: Record<string, readonly [rows: number, cols: number, group: number]> = {
    a: [32, 512, 256],
    b: [16, 192, 64],
    c: [9, 48, 16],
    d: [8, 100, 0],
  };
  const sources = Object.entries(shapes).map(([name, [rows, cols]], seed) => ({
    name,
    ...encode(deviates(rows * cols, seed), "BF16"),
  }));
  writeModel(
    input,
    sources.map(({ name, bytes }) =>
      tensorOf(`${name}.weight`, "BF16", shapes[name]!.slice(0, 2), bytes)
    ),
  );
  const output = join(folder.path, "out.safetensors");
  const result = await convert(input, output, {});
  const model = readModel(output);
  for (const { name, values } of sources) {
    const [rows, cols, g] = shapes[name]!;
    const marker = new TextDecoder().decode(model.get(`${name}.comfy_quant`)!.data);
    const rotated = g === 0
      ? Float64Array.from(values)
      : rotateExplicitly(values, { rows, cols, g });
    assert.equal(
      marker,
      g === 0
        ? '{"format": "int8_tensorwise"}'
        : `{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": ${g}}`,
    );
    const codes = codesOf(model, name);
    const { values: scales } = scalesOf(model, name);
    const plain = rtn(Float32Array.from(rotated), { rows, cols, groupRows: 1, groupCols: cols });
    let error = 0;
    let plainError = 0;
    let signal = 0;
    for (let i = 0; i < rotated.length; i++) {
      const row = Math.floor(i / cols);
      error += (codes[i]! * scales[row]! - rotated[i]!) ** 2;
      plainError += (plain.codes[i]! * plain.scales[row]! - rotated[i]!) ** 2;
      signal += rotated[i]! ** 2;
    }
    assert.ok(error < plainError, `${name}: ${error} is not below ${plainError}`);
    const reported = result.layers.find((layer) => layer.name === `${name}.weight`)!;
    const sqnr = 10 * Math.log10(signal / error);
    assert.ok(
      Math.abs(reported.errors.sqnrDb! - sqnr) < 1e-3,
      "the report is of what is in the file",
    );
  }
  assert.equal(model.get("a.comfy_quant")!.data.length, 72);
});

Deno.test("convertModel() gives the same bytes for any number of workers", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(
    input,
    Array.from(
      { length: 9 },
      (_, i) => tensorOf(`l${i}.weight`, "F32", [640, 512], deviates(640 * 512, i)),
    ),
  );
  for (const scaling of [null, "tensor", "block"] as const) {
    const files: Uint8Array[] = [];
    for (const workers of [1, 2, 5]) {
      const output = join(folder.path, `${workers}.safetensors`);
      await convert(input, output, { scaling }, { workers });
      files.push(bytesOfFile(output));
    }
    assert.ok(Buffer.compare(files[0]!, files[1]!) === 0);
    assert.ok(Buffer.compare(files[0]!, files[2]!) === 0);
  }
});

Deno.test("convertModel() copies kept tensors and metadata byte for byte and aligns everything", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const kept = [
    tensorOf("tekken_model", "U8", [13], Uint8Array.from({ length: 13 }, (_, i) => i)),
    tensorOf("__x0__", "U8", [0], new Uint8Array(0)),
    tensorOf("norm.scale", "BF16", [5], Uint16Array.of(1, 2, 3, 0x7fc0, 0xff80)),
    tensorOf("blocks.0.bias", "F32", [3], Float32Array.of(1, NaN, -0)),
    tensorOf("steps", "I64", [2], BigInt64Array.of(1n, -2n)),
  ];
  const weight = tensorOf("blocks.0.lin.weight", "BF16", [3, 7], new Uint16Array(21).fill(0x3f80));
  writeModel(input, [...kept, weight], { config: '{"a": "é"}', format: "pt" });
  const output = join(folder.path, "out.safetensors");
  const { plan } = await convert(input, output, { saveQuantMetadata: true, inputScale: true });
  const model = readModel(output);
  for (const tensor of kept) {
    assert.deepEqual(model.get(tensor.name), tensor);
  }
  for (const { offsetBytes, dtype } of plan.outputs) {
    const size = { F32: 4, BF16: 2, I64: 8 }[dtype as string] ?? 1;
    assert.equal(offsetBytes % size, 0);
  }
  assert.deepEqual(model.get("blocks.0.lin.input_scale")!.shape, []);
  const header = new TextDecoder().decode(plan.parts[0]!.header.subarray(8));
  const metadata = JSON.parse(header).__metadata__;
  assert.equal(metadata.config, '{"a": "é"}');
  assert.deepEqual(JSON.parse(metadata._quantization_metadata), {
    format_version: "1.0",
    layers: { "blocks.0.lin": { format: "int8_tensorwise" } },
  });
});

Deno.test("convertModel() names tensor, count and first index of NaN and leaves nothing behind", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const w = deviates(600 * 2048, 3);
  w[700_000] = NaN;
  w[20_000] = Infinity;
  w[1_100_000] = -Infinity;
  writeModel(input, [
    tensorOf("ok.weight", "F32", [4, 16], deviates(64, 1)),
    tensorOf("bad.weight", "F32", [600, 2048], w),
  ]);
  const output = join(folder.path, "out.safetensors");
  for (const scaling of ["row", "tensor"] as const) {
    await assert.rejects(
      convert(input, output, { scaling }),
      /tensor "bad\.weight".*holds 3 NaN or infinite values, the first at index 20000/,
    );
    assert.deepEqual(readdirSync(folder.path), ["in.safetensors"]);
  }
  const { plan } = await convert(input, output, { nonfinite: "keep" });
  assert.equal(plan.tensors.find(({ source }) => source.name === "bad.weight")!.action, "keep");
  const model = readModel(output);
  assert.equal(model.get("bad.weight")!.dtype, "F32");
  assert.equal(model.get("ok.weight")!.dtype, "I8");
});

Deno.test("convertModel() casts to F16 and refuses values beyond 65504", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const w = awkward(6, 9, 2);
  writeModel(input, [tensorOf("a.weight", "F32", [6, 9], w)]);
  const output = join(folder.path, "out.safetensors");
  await convert(input, output, { output: "fp16" });
  const { data } = readModel(output).get("a.weight")!;
  assert.deepEqual(new Uint16Array(data.slice().buffer), Uint16Array.from(w, f32ToF16));
  w[10] = 65505;
  writeModel(input, [tensorOf("a.weight", "F32", [6, 9], w)]);
  await assert.rejects(
    convert(input, output, { output: "fp16" }),
    /cast tensor "a\.weight".*1 values that F16 cannot hold.*index 10/,
  );
  await convert(input, output, { output: "fp16", nonfinite: "keep" });
  assert.equal(readModel(output).get("a.weight")!.dtype, "F32");
});

Deno.test("convertModel() writes nothing when it is interrupted", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [tensorOf("a.weight", "F32", [512, 512], deviates(512 * 512, 1))]);
  const output = join(folder.path, "out.safetensors");
  const abort = new AbortController();
  await assert.rejects(
    convert(input, output, {}, { signal: abort.signal, onPlan: () => abort.abort() }),
    { name: "InterruptedError" },
  );
  assert.deepEqual(readdirSync(folder.path), ["in.safetensors"]);
});

Deno.test("convertModel() refuses an existing output, the input as output, and too little memory", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [tensorOf("a.weight", "F32", [64, 64], deviates(4096, 1))]);
  const before = bytesOfFile(input);
  await assert.rejects(convert(input, input, {}), /Cannot write/);
  assert.deepEqual(bytesOfFile(input), before);
  const output = join(folder.path, "out.safetensors");
  await convert(input, output, {});
  await assert.rejects(convert(input, output, {}, { force: false }), /--force/);
  const small = join(folder.path, "small.safetensors");
  await assert.rejects(
    convert(input, small, {}, { memoryLimitBytes: 1e6 }),
    /--memory-limit 1MB: this needs \d+MB/,
  );
  assert.equal(existsSync(small), false);
});

Deno.test("convertModel() refuses quantized input, and requantizes it when asked", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  writeModel(input, [tensorOf("a.weight", "F32", [64, 256], deviates(64 * 256, 1))]);
  const first = join(folder.path, "first.safetensors");
  await convert(input, first, {});
  const second = join(folder.path, "second.safetensors");
  await assert.rejects(convert(first, second, {}), /already quantized \(1 int8_tensorwise layer/);
  const { layers } = await convert(first, second, {
    requantize: true,
    scaling: "row",
    method: "simple",
  });
  assert.deepEqual([...readModel(second).keys()].sort(), [
    "a.comfy_quant",
    "a.weight",
    "a.weight_scale",
  ]);
  assert.ok(layers[0]!.errors.sqnrDb! > 25);
});
