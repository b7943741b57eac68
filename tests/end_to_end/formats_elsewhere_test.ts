/** Formats of 4 and 6 bits beside plain conversions: copied, read again, resumed, split, merged. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { bf16ToF32, f32ToBf16 } from "../../src/core/dtype.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { relativeError, seededFloats } from "../lora/floats.ts";
import { writeCalibratedModel } from "../support/calibrated_model.ts";
import { WORKER_URL } from "../support/encode.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

const ROWS = 48, COLS = 512;
const NAMES = ["blocks.0.lin", "blocks.1.lin", "blocks.2.lin"];
const FORMATS = ["w4a8", "w6a8", "w4a4", "fp8", "mxfp8", "nvfp4"] as const;
/** Relative errors of weights that are rounded to nearest. */
const ERROR = { w4a8: 0.075, w6a8: 0.022, w4a4: 0.13 } as const;

/** The weight of layer `k`, as BF16 has it. */
function weightOf(k: number): Float32Array {
  return seededFloats(ROWS * COLS, k + 5).map((value) => bf16ToF32(f32ToBf16(value)));
}

function writeWeights(path: string): void {
  writeModel(
    path,
    NAMES.map((name, k) =>
      tensorOf(`${name}.weight`, "BF16", [ROWS, COLS], Uint16Array.from(weightOf(k), f32ToBf16))
    ),
  );
}

/** Runs the command line; returns what it said. */
async function quantsmith(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runCli([...args, "--force", "--no-progress"]);
  assert.equal(code, 0, stderr);
  return stdout + stderr;
}

const PLAIN = ["--preset", "none"];

async function valuesOf(folder: string, file: string): Promise<Float32Array[]> {
  const restored = join(folder, "restored.safetensors");
  await quantsmith("dequantize", file, restored, "--output-dtype", "F32");
  const model = readModel(restored);
  return NAMES.map((name) =>
    new Float32Array(model.get(`${name}.weight`)!.data.slice().buffer).subarray(0, ROWS * COLS)
  );
}

for (const format of FORMATS) {
  Deno.test(`--like writes layers as a file of ${format} has them`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeWeights(at("m"));
    const more = format === "w4a8"
      ? ["--group-size", "64", "--codebook", "fit"]
      : format === "w4a4"
      ? ["--linear-dtype", "int8"]
      : [];
    // One layer is INT8: the reference is a mixture.
    const mixed = ["--custom-layers", "blocks\\.1\\.", "--custom-type", "int8"];
    await quantsmith(at("m"), at("reference"), ...PLAIN, "--format", format, ...more, ...mixed);
    const said = await quantsmith(at("m"), at("copy"), "--like", at("reference"));
    assert.doesNotMatch(said, /how they are quantized from the options/);
    const [want, got] = [readModel(at("reference")), readModel(at("copy"))];
    assert.deepEqual([...got.keys()].toSorted(), [...want.keys()].toSorted());
    for (const [name, { dtype, shape, data }] of want) {
      assert.deepEqual([got.get(name)!.dtype, got.get(name)!.shape], [dtype, shape], name);
      assert.deepEqual(got.get(name)!.data, data, name);
    }
  });
}

for (const format of ["w4a8", "w6a8", "w4a4"] as const) {
  Deno.test(`--requantize makes ${format} of an INT8 file, INT8 of that, and says what it adds`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeWeights(at("m"));
    await quantsmith(at("m"), at("int8"), ...PLAIN);
    const refused = await runCli([at("int8"), at("no"), ...PLAIN, "--format", format]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /already quantized/);
    const said = await quantsmith(
      ...[at("int8"), at("small"), ...PLAIN, "--requantize", "--format", format],
      "--report-quality",
    );
    const small = await valuesOf(folder.path, at("small"));
    small.forEach((values, k) => {
      const error = relativeError(values, weightOf(k));
      // Not less than rounding to the format once, and hardly more.
      assert(error > 0.5 * ERROR[format] && error < 1.05 * ERROR[format], `${k}: ${error}`);
    });
    assert.match(said, /dB/);
    await quantsmith(at("small"), at("again"), ...PLAIN, "--requantize");
    const again = await valuesOf(folder.path, at("again"));
    again.forEach((values, k) => assert(relativeError(values, small[k]!) < 0.012, `layer ${k}`));
  });

  Deno.test(`convertModel() resumes a conversion to ${format}, and shards it, to the same tensors`, async () => {
    using folder = temporaryFolder();
    const { input } = writeCalibratedModel(folder.path, { layers: 12, rows: 1024 });
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    const codebook = format === "w4a8" ? { codebook: "fit" as const } : {};
    const convert = (output: string, more: object = {}, changes: object = {}) =>
      convertModel({
        ...{ input, output, workerUrl: WORKER_URL, workers: 1, ...more },
        options: {
          ...DEFAULT_CONVERT_OPTIONS,
          ...{ preset: { kind: "none" }, output: format, ...codebook, ...changes },
        },
      }, { saveMs: 1, touchMs: 5, watchMs: 100 });
    const whole = await convert(at("whole"));
    const controller = new AbortController();
    let count = 0;
    const onLayer = () => void (++count === 5 && controller.abort());
    await assert.rejects(
      () => convert(at("resumed"), { resume: true, signal: controller.signal, onLayer }),
      /--resume/,
    );
    let resumed: number | null = null;
    const onPlan = (start: { resumed: number | null }) => resumed = start.resumed;
    const rest = await convert(at("resumed"), { resume: true, onPlan });
    assert(resumed !== null && resumed > 0 && resumed < 1, `${resumed}`);
    assert(readFileSync(at("resumed")).equals(readFileSync(at("whole"))));
    assert.deepEqual(rest.layers, whole.layers);
    const many = await convert(at("many"), {}, { shardBytes: 500_000 });
    assert(many.files.length > 1, `${many.files.length}`);
    assert.deepEqual(readModel(many.output), readModel(at("whole")));
  });

  Deno.test(`--merge-lora merges before weights become ${format}`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeWeights(at("m"));
    const rank = 4, b = seededFloats(ROWS * rank, 70), a = seededFloats(rank * COLS, 71);
    writeModel(at("lora"), [
      tensorOf("blocks.0.lin.lora_B.weight", "F32", [ROWS, rank], b),
      tensorOf("blocks.0.lin.lora_A.weight", "F32", [rank, COLS], a),
    ]);
    const merged = weightOf(0).map((value, i) => {
      const row = Math.floor(i / COLS), col = i % COLS;
      for (let r = 0; r < rank; r++) value += b[row * rank + r]! * a[r * COLS + col]!;
      return value;
    });
    const lora = ["--merge-lora", at("lora"), "--merge-lora-dampen=False"];
    await quantsmith(at("m"), at("o"), ...PLAIN, "--format", format, ...lora);
    const [first, second] = await valuesOf(folder.path, at("o"));
    assert(relativeError(first!, merged) < 1.1 * ERROR[format], "merged");
    assert(relativeError(first!, weightOf(0)) > 0.5, "the LoRA changes the weight");
    assert(relativeError(second!, weightOf(1)) < ERROR[format], "not merged");
  });

  Deno.test(`edit removes and adds keys of markers of ${format}, and nothing else`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeWeights(at("m"));
    await quantsmith(at("m"), at("o"), ...PLAIN, "--format", format);
    const add = ["--add-keys", "'full_precision_matrix_mult': true"];
    await quantsmith("edit", at("o"), at("e"), ...add);
    const marker = (file: string) =>
      JSON.parse(new TextDecoder().decode(readModel(file).get(`${NAMES[0]}.comfy_quant`)!.data));
    assert.deepEqual(marker(at("e")), { ...marker(at("o")), full_precision_matrix_mult: true });
    await quantsmith("edit", at("e"), at("b"), "--remove-keys", "full_precision_matrix_mult");
    const [want, got] = [readModel(at("o")), readModel(at("b"))];
    for (const [name, { data }] of want) {
      if (!name.endsWith("comfy_quant")) assert.deepEqual(got.get(name)!.data, data, name);
    }
    assert.deepEqual(marker(at("b")), marker(at("o")));
    assert(bytesOfFile(at("b")).length > 0);
  });
}

Deno.test("verify says which GPUs run each format of a file, and which versions it needs", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  writeWeights(at("m"));
  const mixed = ["--custom-layers", "blocks\\.1\\.", "--custom-type", "nvfp4"];
  await quantsmith(at("m"), at("o"), ...PLAIN, "--format", "w6a8", ...mixed);
  const { code, stdout } = await runCli(["verify", at("o")]);
  assert.equal(code, 0, stdout);
  assert.match(
    stdout,
    /asym_w4a8_int8 runs on NVIDIA from Ampere .* need comfy-kitchen 0\.2\.36; loads in ComfyUI 0\.31\.0 or later/,
  );
  assert.match(stdout, /nvfp4 runs on NVIDIA from Blackwell.*; loads in ComfyUI 0\.8\.0 or later/);
  const json = JSON.parse((await runCli(["verify", at("o"), "--json"])).stdout);
  assert.deepEqual(Object.keys(json.runs_on).toSorted(), ["asym_w4a8_int8", "nvfp4"]);
});

for (
  const [format, least, most] of [
    ...[["w4a8", -8, 7], ["w6a8", -31, 31], ["w4a4", -7, 7]],
    ...[["fp8", -126, 126], ["mxfp8", -126, 126], ["nvfp4", -7, 7]],
  ] as const
) {
  Deno.test(`--report draws how often each code of ${format} occurs`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, `${name}.safetensors`);
    writeWeights(at("m"));
    const page = join(folder.path, "report.html");
    await quantsmith(at("m"), at("o"), ...PLAIN, "--format", format, "--report", page);
    const data = /<script type="application\/json" id="data">(.*?)<\/script>/s
      .exec(readFileSync(page, "utf8"))![1]!;
    const { histograms } = JSON.parse(data) as { histograms: { counts: number[] }[] };
    assert.equal(histograms.length, NAMES.length);
    for (const { counts } of histograms) {
      const sumOf = (from: number, to: number) =>
        counts.slice(from, to).reduce((sum, count) => sum + count, 0);
      // Rows of mxfp8 are filled up to a multiple of 32.
      const rows = format === "mxfp8" ? 64 : ROWS;
      assert.equal(sumOf(0, 255), rows * COLS);
      const used = counts.flatMap((count, i) => count > 0 ? [i - 127] : []);
      assert(used[0]! >= least && used.at(-1)! <= most, `${used}`);
      assert(used.length > (most - least) / 2, `${used}`);
      // As many below 0 as above.
      const [below, above] = [sumOf(0, 127), sumOf(128, 255)];
      const zero = format === "w4a8" ? counts[127]! : 0;
      assert(Math.abs(below - above - zero) < 0.03 * ROWS * COLS, `${below}, ${above}`);
    }
  });
}

Deno.test("verify reports a table of w4a8 that is not finite, and one that is not sorted", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.safetensors`);
  writeWeights(at("m"));
  await quantsmith(at("m"), at("o"), ...PLAIN, "--format", "w4a8");
  const name = `${NAMES[1]}.weight_codebook`;
  const withTable = (change: (table: Float32Array) => void) => {
    const tensors = [...readModel(at("o")).values()].map((tensor) => {
      if (tensor.name !== name) return tensor;
      const table = new Float32Array(tensor.data.slice().buffer);
      change(table);
      return tensorOf(name, "F32", [16], table);
    });
    writeModel(at("bad"), tensors);
  };
  withTable((table) => table[3] = NaN);
  const broken = await runCli(["verify", at("bad")]);
  assert.equal(broken.code, 1);
  assert.match(broken.stdout, /1 of the 16 values of blocks\.1\.lin\.weight_codebook are NaN/);
  const refused = await runCli(["dequantize", at("bad"), at("no")]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /table-not-finite/);
  withTable((table) => table.reverse());
  const odd = await runCli(["verify", at("bad")]);
  assert.equal(odd.code, 0, odd.stdout);
  assert.match(odd.stdout, /value 1 of blocks\.1\.lin\.weight_codebook is not above/);
});

/** By the layouts: a scale per row in f32 (.0625 at 512 columns), groups of 16 in 8 bits. */
const BITS = { int8: 8.063, w4a8: 4.563, w6a8: 6.563, w4a4: 4.063 } as const;

Deno.test("--report says how many bits a weight takes in every format", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeWeights(at("m.safetensors"));
  for (const [format, bits] of Object.entries(BITS)) {
    const words = [at("m.safetensors"), at("o.safetensors"), ...PLAIN, "--format", format];
    await quantsmith(...words, "--report", at("r.json"));
    const { layers } = JSON.parse(readFileSync(at("r.json"), "utf8"));
    for (const { bits_per_weight: found } of layers) assert.equal(found, bits, format);
  }
  await quantsmith(at("m.safetensors"), at("o.safetensors"), ...PLAIN, "--report", at("r.html"));
  assert.match(readFileSync(at("r.html"), "utf8"), /8\.06 bits per weight/);
});
