import assert from "node:assert/strict";
import { join } from "node:path";
import { bf16ToF32, f32ToBf16 } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { dequantizeModel } from "../../src/convert/dequantize.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { dividedNorm } from "../../src/convert/smoothing.ts";
import { WorkerPool } from "../../src/run/workers/worker_pool.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";

const D = 32, F = 64, T = 40;
const LAYER = "model.layers.0.";

function deviates(seed: number): () => number {
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
}

function random(count: number, seed: number): Float32Array {
  const next = deviates(seed);
  return Float32Array.from({ length: count }, next);
}

const SHAPES: Readonly<Record<string, readonly [number, number]>> = {
  "self_attn.q_proj": [D, D],
  "self_attn.k_proj": [D, D],
  "self_attn.v_proj": [D, D],
  "self_attn.o_proj": [D, D],
  "mlp.gate_proj": [F, D],
  "mlp.up_proj": [F, D],
  "mlp.down_proj": [D, F],
};

/** One layer of a text encoder, norms in BF16; channel 3 of the stream is loud, column 7 of all weights. */
function layerTensors(isGemma: boolean): Tensor[] {
  const norm = (name: string, seed: number) =>
    tensorOf(
      `${LAYER}${name}.weight`,
      "BF16",
      [D],
      Uint16Array.from(random(D, seed), (x, k) =>
        f32ToBf16((isGemma ? 0 : 1) + 0.4 * x + (k === 3 ? 9 : 0))),
    );
  return [
    norm("input_layernorm", 1),
    norm("post_attention_layernorm", 2),
    ...(isGemma ? [norm("pre_feedforward_layernorm", 3)] : []),
    ...Object.entries(SHAPES).map(([name, [rows, cols]], k) =>
      tensorOf(
        `${LAYER}${name}.weight`,
        "F32",
        [rows, cols],
        random(rows * cols, 10 + k).map((x, i) => x * (i % cols === 7 ? 16 : 1)),
      )
    ),
  ];
}

type Values = (name: string) => Float64Array;

function valuesOf(model: Map<string, Tensor>): Values {
  return (name) => {
    const { dtype, data } = model.get(`${LAYER}${name}.weight`)!;
    const bytes = data.slice().buffer;
    return dtype === "BF16"
      ? Float64Array.from(new Uint16Array(bytes), bf16ToF32)
      : Float64Array.from(new Float32Array(bytes));
  };
}

/** x Wᵀ in f64: `[T, cols]` to `[T, rows]`. */
function linear(x: Float64Array, w: Float64Array, rows: number, cols: number): Float64Array {
  const out = new Float64Array((x.length / cols) * rows);
  for (let t = 0; t < x.length / cols; t++) {
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let k = 0; k < cols; k++) sum += x[t * cols + k]! * w[r * cols + k]!;
      out[t * rows + r] = sum;
    }
  }
  return out;
}

function normed(x: Float64Array, w: Float64Array, isGemma: boolean): Float64Array {
  return x.map((value, i) => {
    const row = x.subarray(i - (i % D), i - (i % D) + D);
    const rms = Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / D);
    return value / rms * (w[i % D]! + (isGemma ? 1 : 0));
  });
}

/** The outputs of the layer for `x` in f64: queries with keys, values through o_proj, the gated MLP. */
function outputs(values: Values, x: Float64Array, isGemma: boolean): Float64Array[] {
  const apply = (name: string, input: Float64Array) =>
    linear(input, values(name), ...SHAPES[name]!);
  const attended = normed(x, values("input_layernorm"), isGemma);
  const q = apply("self_attn.q_proj", attended), k = apply("self_attn.k_proj", attended);
  const mixed = apply("self_attn.v_proj", attended).map((v, i, all) =>
    v + 0.5 * all[(i + D) % all.length]!
  );
  const mlpNorm = isGemma ? "pre_feedforward_layernorm" : "post_attention_layernorm";
  const inner = normed(x, values(mlpNorm), isGemma);
  const gate = apply("mlp.gate_proj", inner).map((v) => v / (1 + Math.exp(-v)));
  const up = apply("mlp.up_proj", inner);
  return [
    q,
    k,
    apply("self_attn.o_proj", mixed),
    apply("mlp.down_proj", gate.map((g, i) => g * up[i]!)),
  ];
}

async function convert(
  tensors: readonly Tensor[],
  options: Partial<ConvertOptions>,
): Promise<
  { smooth: Map<string, Tensor>; restored: Map<string, Tensor>; notes: readonly string[] }
> {
  using folder = temporaryFolder();
  using pool = new WorkerPool(WORKER_URL, 2);
  const at = (name: string) => join(folder.path, name);
  writeModel(at("in.safetensors"), tensors);
  let notes: readonly string[] = [];
  await convertModel({
    input: at("in.safetensors"),
    output: at("out.safetensors"),
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, smoothAlpha: 0.5, ...options },
    workerUrl: WORKER_URL,
    workers: 2,
    onPlan: (start) => notes = start.notes,
  });
  await dequantizeModel(openModel(at("out.safetensors")), {
    output: at("back.safetensors"),
    dtype: "F32",
    pool,
  });
  return {
    smooth: readModel(at("out.safetensors")),
    restored: readModel(at("back.safetensors")),
    notes,
  };
}

function relativeError(got: Float64Array, want: Float64Array): number {
  let error = 0, signal = 0;
  want.forEach((x, i) => {
    error += (got[i]! - x) ** 2;
    signal += x * x;
  });
  return Math.sqrt(error / signal);
}

for (const isGemma of [false, true]) {
  const family = isGemma ? "Gemma" : "Llama";
  Deno.test(`SmoothQuant folded into a ${family} layer changes its outputs by rounding only`, async () => {
    const tensors = layerTensors(isGemma);
    const { smooth, restored, notes } = await convert(tensors, { scaling: "row" });
    const before = valuesOf(new Map(tensors.map((tensor) => [tensor.name, tensor])));
    const norm = `${LAYER}input_layernorm.weight`;
    assert.notDeepEqual(smooth.get(norm)!.data, tensors[0]!.data, "the norm has changed");
    const x = Float64Array.from(random(T * D, 77), (v, i) => v * (i % D === 3 ? 20 : 1));
    const want = outputs(before, x, isGemma), got = outputs(valuesOf(restored), x, isGemma);
    // Far below what a factor that was forgotten would do; int8 rounding gives about 1%.
    want.forEach((output, k) =>
      assert(
        relativeError(got[k]!, output) < 0.05,
        `output ${k}: ${relativeError(got[k]!, output)}`,
      )
    );
    assert.match(notes.join("\n"), /folded into 2 norms and 2 linear layers, for the 7 layers/);
  });
}

Deno.test("SmoothQuant makes the columns of weights take what inputs are relieved of", async () => {
  const tensors = layerTensors(false);
  using folder = temporaryFolder();
  const calibrationPath = join(folder.path, "c.safetensors");
  const x = random(T * D, 5).map((v, i) => v * (i % D === 3 ? 64 : 1));
  writeModel(calibrationPath, [tensorOf(`${LAYER}self_attn.q_proj.activations`, "F32", [T, D], x)]);
  const { restored } = await convert(tensors, {
    scaling: "row",
    calibrationPath,
    smoothAlpha: 1,
    method: "simple",
  });
  const before = valuesOf(new Map(tensors.map((tensor) => [tensor.name, tensor])));
  const column = (values: Values, k: number) => {
    const w = values("self_attn.q_proj");
    return Math.hypot(...Array.from({ length: D }, (_, r) => w[r * D + k]!));
  };
  const after = valuesOf(restored);
  const gain = (k: number) => column(after, k) / column(before, k);
  assert(gain(3) / gain(4) > 30, `${gain(3)} against ${gain(4)}`);
});

Deno.test("SmoothQuant for ctq stores the factors beside every weight, and reading divides them out", async () => {
  const tensors = layerTensors(false);
  const { smooth, restored } = await convert(tensors, {
    target: "ctq",
    scaling: "row",
    method: "simple",
  });
  const factors = smooth.get(`${LAYER}mlp.up_proj.smooth_factors`)!;
  assert.deepEqual([factors.dtype, factors.shape], ["F32", [D]]);
  assert(new Set(new Float32Array(factors.data.slice().buffer)).size > 10);
  assert.deepEqual(smooth.get(`${LAYER}input_layernorm.weight`)!.data, tensors[0]!.data);
  const before = valuesOf(new Map(tensors.map((tensor) => [tensor.name, tensor])));
  const error = relativeError(valuesOf(restored)("mlp.up_proj"), before("mlp.up_proj"));
  assert(error < 0.02, `${error}`);
});

Deno.test("SmoothQuant leaves models alone whose graph is not known, and says so", async () => {
  const tensors = [tensorOf("blocks.0.lin.weight", "F32", [D, D], random(D * D, 1))];
  const { smooth, notes } = await convert(tensors, { scaling: "row" });
  const plain = await convert(tensors, { scaling: "row", smoothAlpha: null });
  assert.deepEqual(
    smooth.get("blocks.0.lin.weight")!.data,
    plain.smooth.get("blocks.0.lin.weight")!.data,
  );
  assert.match(notes.join("\n"), /the other 1 layers is not known/);
});

Deno.test("dividedNorm() reports the factors that a rounded norm amounts to", () => {
  const w = Float32Array.of(0.5, -0.9, -1, 3), factors = Float32Array.of(4, 8, 2, 0.5);
  const bits = Uint16Array.from(w, f32ToBf16);
  const bytes = new Uint8Array(bits.buffer);
  const norm = dividedNorm(bytes.slice(), { dtype: "BF16" }, factors, true);
  const after = Array.from(new Uint16Array(norm.bytes.slice().buffer), bf16ToF32);
  w.forEach((_, k) => {
    const before = 1 + bf16ToF32(bits[k]!);
    assert(Math.abs((1 + after[k]!) * norm.factors[k]! - before) < 1e-6, `channel ${k}`);
  });
  assert.equal(norm.factors[2], 1, "a channel that is off stays");
  const exact = dividedNorm(bytes.slice(), { dtype: "BF16" }, factors, false);
  assert.deepEqual(exact.factors.filter((_, k) => k !== 2), factors.filter((_, k) => k !== 2));
});
