import assert from "node:assert/strict";
import { join } from "node:path";
import { bf16ToF32, f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { UsageError } from "../../src/core/errors.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { parseLayerConfig } from "../../src/config/layer_config.ts";
import { type GivenOptions, resolveOptions } from "../../src/plan/resolve_options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { verifyModel } from "../../src/verify/verify.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { relativeError, seededFloats } from "../lora/floats.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

const weight = (name: string, rows: number, cols: number): Tensor =>
  tensorOf(
    `${name}.weight`,
    "BF16",
    [rows, cols],
    Uint16Array.from(seededFloats(rows * cols, rows + cols), f32ToBf16),
  );

const MODEL = () => [
  weight("blocks.0.a", 48, 512),
  weight("blocks.0.b", 40, 448),
  weight("blocks.0.odd", 32, 56),
  tensorOf("blocks.0.a.bias", "BF16", [48], new Uint16Array(48)),
];

async function convert(given: GivenOptions, workers = 1) {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER, 1);
  const input = join(folder.path, "in.safetensors"), output = join(folder.path, "out.safetensors");
  const restored = join(folder.path, "restored.safetensors");
  writeModel(input, MODEL());
  const options = resolveOptions({ preset: "none", ...given });
  const run = { input, output, options, workerUrl: WORKER, workers };
  let fallbacks: readonly string[] = [];
  await convertModel({ ...run, onPlan: ({ plan }) => fallbacks = plan.fallbacks });
  const report = await verifyModel(openModel(output), pool);
  await dequantizeModel(openModel(output), { output: restored, dtype: "F32", pool });
  return { out: readModel(output), restored: readModel(restored), report, fallbacks };
}

const f32 = ({ data }: Tensor) => new Float32Array(data.slice().buffer);
const wanted = (name: string) => {
  const { data } = MODEL().find((tensor) => tensor.name === name)!;
  return Float32Array.from(new Uint16Array(data.slice().buffer), bf16ToF32);
};

const SHAPES = {
  w4a8: { codes: [48, 256], error: 0.075 },
  w6a8: { codes: [48, 384], error: 0.022 },
} as const;

for (const output of ["w4a8", "w6a8"] as const) {
  Deno.test(`convertModel() writes ${output} that loads and dequantizes`, async () => {
    const { out, restored, report, fallbacks } = await convert({ output });
    assert.deepEqual(report.problems.filter(({ severity }) => severity === "error"), []);
    assert.deepEqual(out.get("blocks.0.a.weight")!.shape, SHAPES[output].codes);
    assert.deepEqual(out.get("blocks.0.a.weight_s_rel")!.shape, [48, 32]);
    assert.deepEqual(out.get("blocks.0.a.weight_s_channel")!.shape, [48]);
    assert.equal(out.has("blocks.0.a.weight_codebook"), output === "w4a8");
    assert.deepEqual(
      JSON.parse(new TextDecoder().decode(out.get("blocks.0.b.comfy_quant")!.data)),
      { format: "asym_w4a8_int8", group_size: 16, convrot_groupsize: 64 },
    );
    for (const name of ["blocks.0.a.weight", "blocks.0.b.weight"]) {
      const error = relativeError(f32(restored.get(name)!), wanted(name));
      assert(error < SHAPES[output].error, `${name}: ${error}`);
    }
    assert.deepEqual(fallbacks.map((line) => line.replace(/:.*/, "")), ["blocks.0.odd.weight"]);
    assert.equal(out.get("blocks.0.odd.weight")!.dtype, "I8");
    assert.deepEqual(out.get("blocks.0.odd.weight_scale")!.shape, [32, 1]);
  });

  Deno.test(`convertModel() writes the same ${output} with any number of workers`, async () => {
    const one = await convert({ output }), three = await convert({ output }, 3);
    for (const [name, { data }] of one.out) assert.deepEqual(three.out.get(name)!.data, data, name);
  });
}

for (const output of ["w4a8", "w6a8"] as const) {
  for (const rows of [96, 700]) {
    Deno.test(`convertModel() compensates errors of ${output} by ${rows} inputs`, async () => {
      using folder = temporaryFolder();
      const path = join(folder.path, "data.safetensors");
      // Channels that go together, so that one can make up for another; 96 inputs of 512 channels are
      // rounded in the space of the rows.
      const pool = seededFloats(rows * 512, 9), x = new Float32Array(rows * 512);
      for (let t = 0; t < rows; t++) {
        for (let k = 0; k < 512; k++) {
          x[t * 512 + k] = pool[t * 512 + k]! + 2 * pool[t * 512 + (k * 7) % 24]!;
        }
      }
      writeModel(path, [tensorOf("blocks.0.a.activations", "F32", [rows, 512], x)]);
      const plain = await convert({ output });
      const one = await convert({ output, calibrationPath: path });
      const three = await convert({ output, calibrationPath: path }, 3);
      const name = "blocks.0.a.weight", w = wanted(name);
      const errorOf = ({ restored }: typeof plain) => {
        const what = f32(restored.get(name)!);
        let error = 0, signal = 0;
        for (let t = 0; t < rows; t++) {
          for (let n = 0; n < 48; n++) {
            let y = 0, e = 0;
            for (let k = 0; k < 512; k++) {
              y += x[t * 512 + k]! * w[n * 512 + k]!;
              e += x[t * 512 + k]! * (w[n * 512 + k]! - what[n * 512 + k]!);
            }
            signal += y * y;
            error += e * e;
          }
        }
        return Math.sqrt(error / signal);
      };
      assert(errorOf(one) < 0.7 * errorOf(plain), `${errorOf(one)} of ${errorOf(plain)}`);
      for (const [name, { data }] of one.out) {
        assert.deepEqual(three.out.get(name)!.data, data, name);
      }
    });
  }
}

Deno.test("convertModel() writes groups of 64 columns if they are asked for", async () => {
  const { out, restored, report } = await convert({ output: "w4a8", groupSize: 64 });
  assert.deepEqual(report.problems.filter(({ severity }) => severity === "error"), []);
  assert.deepEqual(out.get("blocks.0.a.weight_s_rel")!.shape, [48, 8]);
  const error = relativeError(f32(restored.get("blocks.0.a.weight")!), wanted("blocks.0.a.weight"));
  assert(error > SHAPES.w4a8.error && error < 0.1, `${error}`);
});

Deno.test("convertModel() writes w4a4 that loads and dequantizes, for either kind of activations", async () => {
  for (const linearDtype of ["int4", "int8"] as const) {
    const { out, restored, report } = await convert({ output: "w4a4", linearDtype });
    assert.deepEqual(report.problems.filter(({ severity }) => severity === "error"), []);
    assert.deepEqual(out.get("blocks.0.a.weight")!.shape, [48, 256]);
    assert.deepEqual(out.get("blocks.0.a.weight_scale")!.shape, [48]);
    const marker = JSON.parse(new TextDecoder().decode(out.get("blocks.0.a.comfy_quant")!.data));
    assert.equal(marker.linear_dtype, linearDtype === "int4" ? undefined : "int8");
    const error = relativeError(
      f32(restored.get("blocks.0.a.weight")!),
      wanted("blocks.0.a.weight"),
    );
    assert(error < 0.13, `${error}`);
  }
});

const FLOATS = {
  fp8: { codes: [48, 512], error: 0.028, parts: { weight_scale: [] } },
  mxfp8: { codes: [64, 512], error: 0.03, parts: { weight_scale: [128, 16] } },
  nvfp4: { codes: [48, 256], error: 0.1, parts: { weight_scale: [128, 32], weight_scale_2: [] } },
} as const;

for (const output of ["fp8", "mxfp8", "nvfp4"] as const) {
  Deno.test(`convertModel() writes ${output} that loads and dequantizes`, async () => {
    const { out, restored, report } = await convert({ output });
    assert.deepEqual(report.problems.filter(({ severity }) => severity === "error"), []);
    const { codes, error: most, parts } = FLOATS[output];
    assert.deepEqual(out.get("blocks.0.a.weight")!.shape, codes);
    for (const [part, shape] of Object.entries(parts)) {
      assert.deepEqual(out.get(`blocks.0.a.${part}`)!.shape, shape);
    }
    // The bias of the layer shows how many rows are padding.
    const found = f32(restored.get("blocks.0.a.weight")!).subarray(0, 48 * 512);
    const error = relativeError(found, wanted("blocks.0.a.weight"));
    assert(error < most, `${error}`);
  });
}

Deno.test("convertModel() takes formats of single layers from config, custom layers and fallback", async () => {
  const layerConfig = parseLayerConfig(
    JSON.stringify({
      "blocks\\.0\\.a": { format: "w4a8", group_size: 64 },
      "blocks\\.0\\.b": { format: "w6a8" },
    }),
    "layers.json",
  );
  const mixed = await convert({ layerConfig });
  assert.deepEqual(mixed.out.get("blocks.0.a.weight_s_rel")!.shape, [48, 8]);
  assert.deepEqual(mixed.out.get("blocks.0.b.weight")!.shape, [40, 336]);
  assert.deepEqual(mixed.out.get("blocks.0.odd.weight_scale")!.shape, [32, 1]);

  const custom = await convert({
    scaling: "tensor",
    customLayers: "blocks.0.a",
    customType: "w4a4",
  });
  assert.deepEqual(custom.out.get("blocks.0.a.weight")!.shape, [48, 256]);
  assert.deepEqual(custom.out.get("blocks.0.b.weight_scale")!.shape, []);

  const kept = await convert({ excludeLayers: "blocks.0.a", fallback: "w6a8" });
  assert.deepEqual(kept.out.get("blocks.0.a.weight_s_rel")!.shape, [48, 32]);
  assert.deepEqual(kept.out.get("blocks.0.b.weight_scale")!.shape, [40, 1]);
});

Deno.test("resolveOptions() refuses what a format that is no INT8 cannot have", () => {
  const refused: [GivenOptions, RegExp][] = [
    [{ scaling: "block" }, /Cannot use scaling "block" with output "w4a8"/],
    [{ target: "ctq" }, /target "ctq" with output "w4a8"/],
    [{ convrot: "off" }, /convrot "off" with output "w4a8"/],
    [{ output: "fp8", convrot: 256 }, /convrot 256 with output "fp8": it has no rotation/],
    [{ comfyQuant: false }, /comfyQuant false with output "w4a8"/],
    [{ method: "quip", quip: { storeTransformed: true } }, /it is a layout of INT8/],
    [
      { method: "original" },
      /method "original" with output "w4a8": learned rounding moves codes of INT8/,
    ],
    [{ output: "nvfp4", method: "gptq" }, /floats are rounded to nearest/],
    [{ groupSize: 24 }, /groupSize: one of 16, 32, 64, 128, 256 is needed/],
  ];
  for (const [given, message] of refused) {
    assert.throws(() => resolveOptions({ output: "w4a8", ...given }), (error) => {
      assert(error instanceof UsageError);
      assert.match(error.message, message);
      return true;
    });
  }
});
