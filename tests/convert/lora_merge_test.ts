import assert from "node:assert/strict";
import { join } from "node:path";
import { bf16ToF32, type DType, f16ToF32, f32ToBf16, f32ToF16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel } from "../../src/convert/convert.ts";
import {
  type ConvertOptions,
  DEFAULT_CONVERT_OPTIONS,
  type LoraMergeOptions,
} from "../../src/plan/options.ts";
import { relativeError, seededFloats } from "../lora/floats.ts";
import {
  bytesOfFile,
  readModel,
  temporaryFolder,
  tensorOf,
  writeModel,
} from "../support/model_files.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { rotateExplicitly } from "../support/rtn_oracle.ts";

const WORKER = new URL("../../src/run/workers/worker.ts", import.meta.url);

const H = 64;
const BLOCK = "double_blocks.0";
/** Layers of a small Flux, `[rows, cols]`. */
const LAYERS: Readonly<Record<string, readonly [number, number]>> = {
  [`${BLOCK}.img_attn.qkv`]: [3 * H, H],
  [`${BLOCK}.img_attn.proj`]: [H, H],
  [`${BLOCK}.img_mlp.0`]: [4 * H, H],
  [`${BLOCK}.img_mlp.2`]: [H, 4 * H],
};

function valuesOf({ dtype, data }: Tensor): Float32Array {
  const bytes = data.slice().buffer;
  if (dtype === "F32") return new Float32Array(bytes);
  const halves = new Uint16Array(bytes);
  return Float32Array.from(halves, dtype === "F16" ? f16ToF32 : bf16ToF32);
}

function encoded(name: string, dtype: DType, shape: number[], values: Float32Array): Tensor {
  if (dtype === "F32") return tensorOf(name, dtype, shape, values);
  const halves = Uint16Array.from(values, dtype === "F16" ? f32ToF16 : f32ToBf16);
  return tensorOf(name, dtype, shape, halves);
}

function writeFlux(path: string, dtype: DType = "F32"): Map<string, Float32Array> {
  const tensors: Tensor[] = [];
  Object.entries(LAYERS).forEach(([name, [rows, cols]], i) => {
    tensors.push(encoded(`${name}.weight`, dtype, [rows, cols], seededFloats(rows * cols, i)));
    tensors.push(encoded(`${name}.bias`, dtype, [rows], seededFloats(rows, 50 + i)));
  });
  writeModel(path, tensors);
  return new Map(tensors.map((tensor) => [tensor.name, valuesOf(tensor)]));
}

/** One adapted layer: its key in the file, and the rows of the model's weight that it changes. */
interface Adapted {
  readonly key: string;
  readonly layer: string;
  readonly rowStart: number;
  readonly rows: number;
}

function whole(layer: string, key: string): Adapted {
  return { key, layer, rowStart: 0, rows: LAYERS[layer]![0] };
}

const NATIVE = Object.keys(LAYERS);
const STYLES: Readonly<Record<string, { layers: readonly Adapted[]; names: [string, string] }>> = {
  peft: {
    layers: NATIVE.map((layer) => whole(layer, `diffusion_model.${layer}`)),
    names: ["lora_A.weight", "lora_B.weight"],
  },
  kohya: {
    layers: NATIVE.map((layer) => whole(layer, `lora_unet_${layer.replaceAll(".", "_")}`)),
    names: ["lora_down.weight", "lora_up.weight"],
  },
  diffusers: {
    layers: [
      ...["to_q", "to_k", "to_v"].map((part, i): Adapted => ({
        key: `transformer.transformer_blocks.0.attn.${part}`,
        layer: NATIVE[0]!,
        rowStart: i * H,
        rows: H,
      })),
      whole(NATIVE[1]!, "transformer.transformer_blocks.0.attn.to_out.0"),
      whole(NATIVE[2]!, "transformer.transformer_blocks.0.ff.net.0.proj"),
      whole(NATIVE[3]!, "transformer.transformer_blocks.0.ff.net.2"),
    ],
    names: ["lora_A.weight", "lora_B.weight"],
  },
};

const RANK = 5;
const ALPHA = 2;

/** Writes a LoRA; returns a function that adds `strength` of it to weights, in f64. */
function writeLora(
  path: string,
  style: keyof typeof STYLES,
  seed: number,
): (weights: Map<string, Float64Array>, strength: number) => void {
  const { layers, names } = STYLES[style]!;
  const tensors: Tensor[] = [];
  const changes = layers.map(({ key, layer, rowStart, rows }, i) => {
    const cols = LAYERS[layer]![1];
    const down = encoded(
      `${key}.${names[0]}`,
      "BF16",
      [RANK, cols],
      seededFloats(RANK * cols, seed + i),
    );
    const up = encoded(
      `${key}.${names[1]}`,
      "F16",
      [rows, RANK],
      seededFloats(rows * RANK, seed + 90 + i),
    );
    tensors.push(down, up, tensorOf(`${key}.alpha`, "F32", [], new Float32Array([ALPHA])));
    return { layer, rowStart, rows, cols, a: valuesOf(down), b: valuesOf(up) };
  });
  writeModel(path, tensors);
  return (weights, strength) => {
    for (const { layer, rowStart, rows, cols, a, b } of changes) {
      const weight = weights.get(`${layer}.weight`)!;
      for (let row = 0; row < rows; row++) {
        for (let col = 0; col < cols; col++) {
          let sum = 0;
          for (let r = 0; r < RANK; r++) sum += b[row * RANK + r]! * a[r * cols + col]!;
          const at = (rowStart + row) * cols + col;
          weight[at] = weight[at]! + strength * (ALPHA / RANK) * sum;
        }
      }
    }
  };
}

function wide(weights: Map<string, Float32Array>): Map<string, Float64Array> {
  return new Map([...weights].map(([name, values]) => [name, Float64Array.from(values)]));
}

function merging(...paths: string[]): LoraMergeOptions {
  return { paths, scale: 1, dampen: true, strict: false };
}

function convert(input: string, output: string, options: Partial<ConvertOptions>, workers = 2) {
  return convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...options },
    workerUrl: WORKER,
    workers,
    force: true,
  });
}

/** Keeps every layer. */
const KEEP: Partial<ConvertOptions> = { excludeLayers: /./ };

for (const style of Object.keys(STYLES)) {
  Deno.test(`convertModel() merges ${style} keys into kept layers as W + s alpha/r B A`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    const want = wide(writeFlux(at("m.safetensors")));
    writeLora(at("l.safetensors"), style, 7)(want, 0.7);
    const merge = { ...merging(at("l.safetensors")), scale: 0.7 };
    const { plan } = await convert(at("m.safetensors"), at("o.safetensors"), { ...KEEP, merge });
    const got = readModel(at("o.safetensors"));
    for (const [name, values] of want) {
      assert.equal(got.get(name)!.dtype, "F32");
      assert.ok(relativeError(valuesOf(got.get(name)!), values) < 2e-7, name);
    }
    for (const { source, reason } of plan.tensors) {
      assert.equal(reason.endsWith(" + LoRA"), source.name.endsWith(".weight"), reason);
    }
  });

  Deno.test(`convertModel() merges ${style} keys before it quantizes, in every scaling`, async () => {
    using folder = temporaryFolder();
    const at = (name: string) => join(folder.path, name);
    const want = wide(writeFlux(at("m.safetensors"), "BF16"));
    writeLora(at("l.safetensors"), style, 11)(want, 1);
    const merge = merging(at("l.safetensors"));
    for (const scaling of [null, "row", "tensor", "block"] as const) {
      const { layers } = await convert(at("m.safetensors"), at("o.safetensors"), {
        merge,
        scaling,
        blockSize: 32,
      });
      const got = readModel(at("o.safetensors"));
      for (const [name, [rows, cols]] of Object.entries(LAYERS)) {
        const codes = new Int8Array(got.get(`${name}.weight`)!.data.slice().buffer);
        const scales = valuesOf(got.get(`${name}.weight_scale`)!);
        const scaleAt = (row: number, col: number) =>
          scaling === "tensor"
            ? scales[0]!
            : scaling === "block"
            ? scales[Math.floor(row / 32) * (cols / 32) + Math.floor(col / 32)]!
            : scales[row]!;
        let stored: Float64Array = Float64Array.from(
          codes,
          (code, i) => code * scaleAt(Math.floor(i / cols), i % cols),
        );
        if (scaling === null) {
          const g = cols % 256 === 0 ? 256 : 64;
          stored = rotateExplicitly(Float32Array.from(stored), { rows, cols, g });
        }
        const error = relativeError(stored, want.get(`${name}.weight`)!);
        assert.ok(error < 0.02, `${scaling} ${name}: ${error}`);
        // The reported error is that against the merged weight.
        const told = layers.find((layer) => layer.name === `${name}.weight`)!.errors.relativeError;
        assert.ok(Math.abs(told / error - 1) < 1e-3, `${scaling} ${name}: ${told}, not ${error}`);
      }
    }
  });
}

Deno.test("convertModel() dampens the n-th LoRA by 0.9^(n-1), unless asked not to", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const source = writeFlux(at("m.safetensors"));
  const loras = ["peft", "kohya", "diffusers"].map((style, i) => ({
    path: at(`${i}.safetensors`),
    add: writeLora(at(`${i}.safetensors`), style, 100 * i),
  }));
  for (const [dampen, strengths] of [[true, [1, 0.9, 0.81]], [false, [1, 1, 1]]] as const) {
    const want = wide(source);
    loras.forEach(({ add }, i) => add(want, strengths[i]!));
    const merge = { ...merging(...loras.map(({ path }) => path)), dampen };
    await convert(at("m.safetensors"), at("o.safetensors"), { ...KEEP, merge });
    const got = readModel(at("o.safetensors"));
    for (const [name, values] of want) {
      assert.ok(relativeError(valuesOf(got.get(name)!), values) < 1e-6, name);
    }
  }
});

Deno.test("convertModel() casts merged layers with --fp16 and keeps merged ones in their dtype", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  for (
    const [dtype, options] of [["F32", { output: "fp16" }], ["F16", KEEP], ["BF16", KEEP]] as const
  ) {
    const want = wide(writeFlux(at("m.safetensors"), dtype));
    writeLora(at("l.safetensors"), "kohya", 3)(want, 1);
    await convert(at("m.safetensors"), at("o.safetensors"), {
      ...options,
      merge: merging(at("l.safetensors")),
    });
    const got = readModel(at("o.safetensors")).get(`${NATIVE[1]}.weight`)!;
    assert.equal(got.dtype, dtype === "BF16" ? "BF16" : "F16");
    const f32 = Float32Array.from(want.get(`${NATIVE[1]}.weight`)!);
    const expected = Float32Array.from(
      f32,
      dtype === "BF16" ? (x) => bf16ToF32(f32ToBf16(x)) : (x) => f16ToF32(f32ToF16(x)),
    );
    const differing = valuesOf(got).filter((value, i) => value !== expected[i]).length;
    // Sums in f32 may fall on the other side of a tie.
    assert.ok(differing <= 8, `${dtype}: ${differing} differ`);
  }
  writeFlux(at("m.safetensors"));
  const f64 = [...readModel(at("m.safetensors")).values()].map((tensor) =>
    tensorOf(tensor.name, "F64", tensor.shape, Float64Array.from(valuesOf(tensor)))
  );
  writeModel(at("m.safetensors"), f64);
  await assert.rejects(
    convert(at("m.safetensors"), at("o.safetensors"), {
      ...KEEP,
      merge: merging(at("l.safetensors")),
    }),
    /Cannot merge a LoRA into tensor ".*qkv\.weight": it is kept as F64/,
  );
});

Deno.test("convertModel() merges changes of biases", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const source = writeFlux(at("m.safetensors"), "BF16");
  const layer = NATIVE[1]!;
  const change = seededFloats(H, 5);
  const key = `diffusion_model.${layer}`;
  writeModel(at("l.safetensors"), [
    tensorOf(`${key}.diff`, "F32", [H, H], seededFloats(H * H, 6)),
    tensorOf(`${key}.diff_b`, "F32", [H], change),
  ]);
  await convert(at("m.safetensors"), at("o.safetensors"), { merge: merging(at("l.safetensors")) });
  const bias = readModel(at("o.safetensors")).get(`${layer}.bias`)!;
  assert.deepEqual([bias.dtype, bias.shape], ["BF16", [H]]);
  const before = source.get(`${layer}.bias`)!;
  assert.deepEqual(
    valuesOf(bias),
    before.map((value, i) => bf16ToF32(f32ToBf16(value + change[i]!))),
  );
});

Deno.test("convertModel() at strength 0 writes the bytes of a run without LoRA", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFlux(at("m.safetensors"), "BF16");
  writeLora(at("l.safetensors"), "peft", 1);
  await convert(at("m.safetensors"), at("plain.safetensors"), {});
  const merge = { ...merging(at("l.safetensors")), scale: 0 };
  await convert(at("m.safetensors"), at("zero.safetensors"), { merge });
  assert.deepEqual(bytesOfFile(at("zero.safetensors")), bytesOfFile(at("plain.safetensors")));
});

Deno.test("convertModel() merges to the same bytes with 1 and 2 workers, also in wide blocks", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const [rows, cols] = [256, 9088]; // a band of 128 x 9088 is more than a chunk
  writeModel(at("m.safetensors"), [
    encoded("layer.weight", "BF16", [rows, cols], seededFloats(rows * cols, 1)),
  ]);
  const down = seededFloats(2 * cols, 2);
  const up = seededFloats(rows * 2, 3);
  writeModel(at("l.safetensors"), [
    tensorOf("diffusion_model.layer.lora_A.weight", "F32", [2, cols], down),
    tensorOf("diffusion_model.layer.lora_B.weight", "F32", [rows, 2], up),
  ]);
  const merge = merging(at("l.safetensors"));
  for (const scaling of ["row", "block"] as const) {
    const options = { merge, scaling, blockSize: 128 };
    const runs: Uint8Array[] = [];
    for (const workers of [1, 2]) {
      await convert(at("m.safetensors"), at("o.safetensors"), options, workers);
      runs.push(bytesOfFile(at("o.safetensors")));
    }
    assert.ok(runs[0]!.every((byte, i) => byte === runs[1]![i]), scaling);
  }
});

Deno.test("convertModel() lists what of a LoRA has no place, and refuses it with strict", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  writeFlux(at("m.safetensors"));
  writeLora(at("l.safetensors"), "kohya", 1);
  const pair = (key: string, rows: number) => [
    tensorOf(`${key}.lora_down.weight`, "F32", [2, H], seededFloats(2 * H, 1)),
    tensorOf(`${key}.lora_up.weight`, "F32", [rows, 2], seededFloats(rows * 2, 2)),
  ];
  const good = [...readModel(at("l.safetensors")).values()]
    .filter(({ name }) => !name.includes("img_attn_proj"));
  writeModel(at("l.safetensors"), [
    ...good,
    ...pair("lora_unet_double_blocks_9_img_attn_proj", H),
    ...pair("lora_unet_double_blocks_0_img_attn_proj", 2 * H),
  ]);
  const merge = merging(at("l.safetensors"));
  const notes: string[] = [];
  await convertModel({
    input: at("m.safetensors"),
    output: at("o.safetensors"),
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, merge },
    workerUrl: WORKER,
    workers: 1,
    onPlan: (start) => void notes.push(...start.notes),
  });
  assert.match(notes.join("\n"), /3 of 5 layers are merged/);
  assert.match(notes.join("\n"), /double_blocks_9_img_attn_proj: the model has no such layer/);
  assert.match(
    notes.join("\n"),
    /double_blocks_0_img_attn_proj: its change is 128 x 64.*is 64 x 64/,
  );
  await assert.rejects(
    convert(at("m.safetensors"), at("no.safetensors"), { merge: { ...merge, strict: true } }),
    /2 of its layers have no place in the model, and --strict is on/,
  );
  await assert.rejects(
    convert(at("m.safetensors"), at("l.safetensors"), { merge }),
    /Cannot write/,
  );
});

Deno.test("convertModel() merges before it compensates errors", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const want = wide(writeFlux(at("m.safetensors"), "BF16"));
  writeLora(at("l.safetensors"), "diffusers", 21)(want, 1);
  writeModel(
    at("c.safetensors"),
    NATIVE.map((layer) => {
      const cols = LAYERS[layer]![1];
      return tensorOf(`${layer}.activations`, "F32", [96, cols], seededFloats(96 * cols, cols));
    }),
  );
  for (const scaling of ["row", "tensor"] as const) {
    const { layers } = await convert(at("m.safetensors"), at("o.safetensors"), {
      merge: merging(at("l.safetensors")),
      calibrationPath: at("c.safetensors"),
      scaling,
    });
    const got = readModel(at("o.safetensors"));
    for (const layer of NATIVE) {
      const cols = LAYERS[layer]![1];
      const codes = new Int8Array(got.get(`${layer}.weight`)!.data.slice().buffer);
      const scales = valuesOf(got.get(`${layer}.weight_scale`)!);
      const stored = Float64Array.from(
        codes,
        (code, i) => code * scales[scaling === "row" ? Math.floor(i / cols) : 0]!,
      );
      const error = relativeError(stored, want.get(`${layer}.weight`)!);
      const result = layers.find(({ name }) => name === `${layer}.weight`)!;
      assert.equal(result.note?.kind === "compensated" && result.note.manner, "gptq");
      assert.ok(error < 0.03, `${scaling} ${layer}: ${error}`);
      assert.ok(Math.abs(result.errors.relativeError / error - 1) < 1e-3);
    }
  }
});

for (const options of [{}, { scaling: "block", blockSize: 32 }] as const) {
  testGpuOnly(
    `convertModel() merges LoRAs on a GPU to the bytes of the CPU: ${JSON.stringify(options)}`,
    async () => {
      using folder = temporaryFolder();
      using gpu = await GpuService.start(WORKER);
      const at = (name: string) => join(folder.path, name);
      writeFlux(at("m.safetensors"), "BF16");
      // Two on the same rows, one of them on parts of a weight.
      writeLora(at("a.safetensors"), "peft", 3);
      writeLora(at("b.safetensors"), "diffusers", 5);
      const bytesOn = async (openGpu: () => Promise<GpuService | null>) => {
        const result = await convertModel({
          input: at("m.safetensors"),
          output: at("o.safetensors"),
          options: {
            ...DEFAULT_CONVERT_OPTIONS,
            preset: { kind: "none" },
            merge: merging(at("a.safetensors"), at("b.safetensors")),
            ...options,
          },
          workerUrl: WORKER,
          workers: 2,
          force: true,
          openGpu,
        });
        return { bytes: bytesOfFile(at("o.safetensors")), gpu: result.gpu };
      };
      const onCpu = await bytesOn(() => Promise.resolve(null));
      const onGpu = await bytesOn(() => Promise.resolve(gpu));
      assert.equal(onGpu.gpu!.failure, null);
      assert.equal(onGpu.gpu!.operations, Object.keys(LAYERS).length);
      assert.equal(onGpu.bytes.length, onCpu.bytes.length);
      // An assertion on all of them would take minutes to print what differs.
      assert.equal(onGpu.bytes.findIndex((byte, k) => byte !== onCpu.bytes[k]), -1);
    },
  );
}

Deno.test("convertModel() merges into a kept F8 tensor, which becomes BF16, and says so", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors");
  const lora = join(folder.path, "lora.safetensors");
  const output = join(folder.path, "out.safetensors");
  const rows = 32, cols = 16, one = 0x38; // E4M3
  writeModel(input, [
    tensorOf("txtfusion.projector.weight", "BF16", [1, 12], new Uint16Array(12)),
    tensorOf("first.weight", "F8_E4M3", [rows, cols], new Uint8Array(rows * cols).fill(one)),
  ]);
  writeModel(lora, [
    tensorOf("diffusion_model.first.lora_A.weight", "F32", [1, cols], seededFloats(cols, 1)),
    tensorOf("diffusion_model.first.lora_B.weight", "F32", [rows, 1], seededFloats(rows, 2)),
  ]);
  let notes: readonly string[] = [];
  await convertModel({
    input,
    output,
    options: {
      ...DEFAULT_CONVERT_OPTIONS,
      merge: { paths: [lora], scale: 1, dampen: true, strict: false },
    },
    workerUrl: WORKER,
    workers: 1,
    onPlan: (start) => notes = start.notes,
  });
  const merged = readModel(output).get("first.weight")!;
  assert.equal(merged.dtype, "BF16");
  const a = seededFloats(cols, 1), b = seededFloats(rows, 2);
  const wanted = Float32Array.from(
    { length: rows * cols },
    (_, i) => 1 + b[Math.floor(i / cols)]! * a[i % cols]!,
  );
  assert.ok(relativeError(valuesOf(merged), wanted) < 0.004);
  assert.match(notes.join(), /merged into kept F8 tensors, which become BF16: first\.weight/);
});
