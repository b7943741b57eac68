import assert from "node:assert/strict";
import { FormatError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { buildKeyMap } from "../../src/lora/key_map.ts";
import { matrixShape } from "../../src/core/shape.ts";
import { addLoraDelta } from "../../src/lora/merge.ts";
import { parseLora } from "../../src/lora/parse_lora.ts";
import { prepareDelta } from "../../src/lora/prepare_delta.ts";
import { resolveLora } from "../../src/lora/resolve_lora.ts";
import { relativeError, seededFloats } from "./floats.ts";
import { tensor } from "./headers.ts";

/** Tensors with values: those of a LoRA, or of a model. */
type Values = ReadonlyMap<string, { info: TensorInfo; data: Float32Array }>;

function values(shapes: Record<string, number[]>, seed = 1): Values {
  return new Map(
    Object.entries(shapes).map(([name, shape], i) => {
      const count = shape.reduce((product, size) => product * size, 1);
      return [name, { info: tensor(name, shape, "F32"), data: seededFloats(count, seed + i) }];
    }),
  );
}

/** Merges a LoRA into every tensor of the model that it changes; returns all tensors. */
function merge(
  model: Values,
  lora: Values,
  { strength = 1, metadata = null }: {
    strength?: number;
    metadata?: Record<string, string> | null;
  } = {},
): Map<string, Float32Array> {
  const parsed = parseLora([...lora.values()].map((t) => t.info), metadata);
  assert.deepEqual(parsed.problems, []);
  const infos = [...model.values()].map((t) => t.info);
  const { targets, unmatched, mismatched } = resolveLora(parsed, infos, buildKeyMap(infos));
  assert.deepEqual([unmatched, mismatched], [[], []]);
  const merged = new Map([...model].map(([name, { data }]) => [name, data.slice()]));
  const source = { path: "l.safetensors", read: (t: TensorInfo) => lora.get(t.name)!.data };
  for (const target of targets) {
    addLoraDelta(merged.get(target.weight.name)!, prepareDelta(target, source, { strength }));
  }
  return merged;
}

/** m x n product in f64. */
function product(a: ArrayLike<number>, b: ArrayLike<number>, inner: number): Float64Array {
  const rows = a.length / inner;
  const cols = b.length / inner;
  return Float64Array.from({ length: rows * cols }, (_, at) => {
    let sum = 0;
    for (let i = 0; i < inner; i++) {
      sum += a[Math.floor(at / cols) * inner + i]! * b[i * cols + at % cols]!;
    }
    return sum;
  });
}

function plus(w: ArrayLike<number>, change: ArrayLike<number>, factor: number): number[] {
  return Array.from(w, (x, i) => x + factor * change[i]!);
}

Deno.test("prepareDelta() scales a pair by its alpha tensor, its rank and the strength", () => {
  const model = values({ "a.q.weight": [6, 5] });
  const lora = new Map([
    ...values({ "a.q.lora_down.weight": [3, 5], "a.q.lora_up.weight": [6, 3] }, 10),
    ["a.q.alpha", { info: tensor("a.q.alpha", [], "F32"), data: new Float32Array([1.5]) }],
  ]);
  const merged = merge(model, lora, { strength: 0.81 }).get("a.q.weight")!;
  const change = product(
    lora.get("a.q.lora_up.weight")!.data,
    lora.get("a.q.lora_down.weight")!.data,
    3,
  );
  const want = plus(model.get("a.q.weight")!.data, change, 0.81 * 1.5 / 3);
  assert.ok(relativeError(merged, want) < 1e-7);
});

Deno.test("prepareDelta() makes three pairs of a fused weight what one fused matrix would be", () => {
  const model = values({ "double_blocks.0.img_attn.qkv.weight": [12, 4] });
  const layer = "transformer.transformer_blocks.0.attn";
  const lora = values(
    Object.fromEntries(["to_q", "to_k", "to_v"].flatMap((part) => [
      [`${layer}.${part}.lora_A.weight`, [2, 4]],
      [`${layer}.${part}.lora_B.weight`, [4, 2]],
    ])),
    5,
  );
  const merged = merge(model, lora).get("double_blocks.0.img_attn.qkv.weight")!;
  const change = ["to_q", "to_k", "to_v"].flatMap((part) => [
    ...product(
      lora.get(`${layer}.${part}.lora_B.weight`)!.data,
      lora.get(`${layer}.${part}.lora_A.weight`)!.data,
      2,
    ),
  ]);
  const want = plus(model.get("double_blocks.0.img_attn.qkv.weight")!.data, change, 1);
  assert.ok(relativeError(merged, want) < 1e-7);
});

Deno.test("prepareDelta() puts (scale, shift) of diffusers back to (shift, scale)", () => {
  const name = "final_layer.adaLN_modulation.1.weight";
  const model = values({ [name]: [8, 4], "double_blocks.0.img_mlp.0.weight": [4, 4] });
  const lora = values({
    "transformer.norm_out.linear.lora_A.weight": [2, 4],
    "transformer.norm_out.linear.lora_B.weight": [8, 2],
  }, 7);
  const change = product(
    lora.get("transformer.norm_out.linear.lora_B.weight")!.data,
    lora.get("transformer.norm_out.linear.lora_A.weight")!.data,
    2,
  );
  const swapped = [...change.subarray(16), ...change.subarray(0, 16)];
  const want = plus(model.get(name)!.data, swapped, 1);
  assert.ok(relativeError(merge(model, lora).get(name)!, want) < 1e-7);

  // The same change, given as a Kronecker product (with the 1 x 1 left factor 1) and as it is.
  const at = "transformer.norm_out.linear";
  const whole = { info: tensor(`${at}.lokr_w2`, [8, 4], "F32"), data: Float32Array.from(change) };
  const one = { info: tensor(`${at}.lokr_w1`, [1, 1], "F32"), data: new Float32Array([1]) };
  const lokr = new Map([[`${at}.lokr_w1`, one], [`${at}.lokr_w2`, whole]]);
  assert.ok(relativeError(merge(model, lokr).get(name)!, want) < 1e-7);
  const diff = new Map([[`${at}.diff`, { ...whole, info: tensor(`${at}.diff`, [8, 4], "F32") }]]);
  assert.ok(relativeError(merge(model, diff).get(name)!, want) < 1e-7);
});

Deno.test("prepareDelta() splits a fused pair over separate weights", () => {
  const names = ["to_q", "to_k", "to_v"].map((part) => `transformer_blocks.0.attn.${part}.weight`);
  const model = values({
    ...Object.fromEntries(names.map((name) => [name, [4, 4]])),
    "single_transformer_blocks.0.proj_out.weight": [4, 20],
  });
  const lora = values({
    "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": [2, 4],
    "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": [12, 2],
  }, 20);
  const change = product(
    lora.get("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight")!.data,
    lora.get("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight")!.data,
    2,
  );
  const merged = merge(model, lora);
  names.forEach((name, i) => {
    const want = plus(model.get(name)!.data, change.subarray(i * 16, (i + 1) * 16), 1);
    assert.ok(relativeError(merged.get(name)!, want) < 1e-7, name);
  });
});

Deno.test("prepareDelta() merges convolutions, folding a middle factor", () => {
  const model = values({ "c.weight": [6, 3, 2, 2] });
  const [rank, cols] = [4, 12];
  const plain = values({ "c.lora_down.weight": [4, 3, 2, 2], "c.lora_up.weight": [6, 4, 1, 1] }, 3);
  const down = plain.get("c.lora_down.weight")!.data;
  const up = plain.get("c.lora_up.weight")!.data;
  const w = model.get("c.weight")!.data;
  assert.ok(
    relativeError(merge(model, plain).get("c.weight")!, plus(w, product(up, down, rank), 1)) < 1e-7,
  );

  const cp = values({
    "c.lora_down.weight": [5, 3, 1, 1],
    "c.lora_mid.weight": [4, 5, 2, 2],
    "c.lora_up.weight": [6, 4, 1, 1],
  }, 30);
  const [d, m, u] = ["down", "mid", "up"].map((role) => cp.get(`c.lora_${role}.weight`)!.data);
  const change = new Float64Array(6 * cols);
  for (let o = 0; o < 6; o++) {
    for (let i = 0; i < 3; i++) {
      for (let s = 0; s < 4; s++) {
        for (let p = 0; p < 4; p++) {
          for (let q = 0; q < 5; q++) {
            change[o * cols + i * 4 + s]! += u![o * 4 + p]! * m![(p * 5 + q) * 4 + s]! *
              d![q * 3 + i]!;
          }
        }
      }
    }
  }
  assert.ok(relativeError(merge(model, cp).get("c.weight")!, plus(w, change, 1)) < 1e-6);
});

Deno.test("prepareDelta() merges LoHa as the product of two pairs, scaled by alpha / rank", () => {
  const model = values({ "h.weight": [6, 5] });
  const lora = new Map([
    ...values({
      "h.hada_w1_a": [6, 2],
      "h.hada_w1_b": [2, 5],
      "h.hada_w2_a": [6, 2],
      "h.hada_w2_b": [2, 5],
    }, 4),
    ["h.alpha", { info: tensor("h.alpha", [], "F32"), data: new Float32Array([3]) }],
  ]);
  const of = (name: string) => lora.get(`h.hada_${name}`)!.data;
  const second = product(of("w2_a"), of("w2_b"), 2);
  const change = product(of("w1_a"), of("w1_b"), 2).map((x, i) => x * second[i]!);
  const want = plus(model.get("h.weight")!.data, change, 3 / 2);
  assert.ok(relativeError(merge(model, lora).get("h.weight")!, want) < 1e-7);
});

Deno.test("prepareDelta() merges LoKr as a Kronecker product, whole or decomposed, in any rows", () => {
  const kron = (a: ArrayLike<number>, ac: number, b: ArrayLike<number>, bc: number) => {
    const [ar, br] = [a.length / ac, b.length / bc];
    const out = new Float64Array(ar * br * ac * bc);
    for (let i = 0; i < ar; i++) {
      for (let j = 0; j < ac; j++) {
        for (let k = 0; k < br; k++) {
          for (let l = 0; l < bc; l++) {
            out[(i * br + k) * ac * bc + j * bc + l] = a[i * ac + j]! * b[k * bc + l]!;
          }
        }
      }
    }
    return out;
  };
  const model = values({ "k.weight": [6, 10] });
  const w = model.get("k.weight")!.data;
  const whole = values({ "k.lokr_w1": [2, 5], "k.lokr_w2": [3, 2] }, 4);
  const first = whole.get("k.lokr_w1")!.data;
  const want = plus(w, kron(first, 5, whole.get("k.lokr_w2")!.data, 2), 1);
  assert.ok(relativeError(merge(model, whole).get("k.weight")!, want) < 1e-7);

  const parts = new Map([
    ...values({ "k.lokr_w1": [2, 5], "k.lokr_w2_a": [3, 4], "k.lokr_w2_b": [4, 2] }, 4),
    ["k.alpha", { info: tensor("k.alpha", [], "F32"), data: new Float32Array([2]) }],
  ]);
  const w2 = product(parts.get("k.lokr_w2_a")!.data, parts.get("k.lokr_w2_b")!.data, 4);
  const wantParts = plus(w, kron(parts.get("k.lokr_w1")!.data, 5, w2, 2), 2 / 4);
  assert.ok(relativeError(merge(model, parts).get("k.weight")!, wantParts) < 1e-6);
});

Deno.test("prepareDelta() changes norms and biases, scaling a pair's bias like the pair", () => {
  const model = values({ "n.weight": [4], "a.q.weight": [4, 3], "a.q.bias": [4] });
  const lora = values({
    "n.diff": [4],
    "a.q.lora_A.weight": [2, 3],
    "a.q.lora_B.weight": [4, 2],
    "a.q.lora_B.bias": [4],
  }, 6);
  const merged = merge(model, lora, {
    strength: 0.5,
    metadata: { lora_adapter_metadata: '{"lora_alpha": 6}' },
  });
  const of = (name: string) => lora.get(name)!.data;
  assert.ok(
    relativeError(merged.get("n.weight")!, plus(model.get("n.weight")!.data, of("n.diff"), 0.5)) <
      1e-7,
  );
  const bias = plus(model.get("a.q.bias")!.data, of("a.q.lora_B.bias"), 0.5 * 6 / 2);
  assert.ok(relativeError(merged.get("a.q.bias")!, bias) < 1e-7);
});

Deno.test("prepareDelta() names the tensor whose alpha or values are not finite", () => {
  const infos = [tensor("a.q.weight", [4, 3])];
  const names = { "a.q.lora_A.weight": [2, 3], "a.q.lora_B.weight": [4, 2], "a.q.alpha": [] };
  for (
    const [name, message] of [
      ["a.q.alpha", /"l\.safetensors", tensor "a\.q\.alpha": alpha is NaN, a finite number/],
      ["a.q.lora_B.weight", /tensor "a\.q\.lora_B\.weight": element 0 is NaN/],
    ] as const
  ) {
    const lora = values(names);
    lora.get(name)!.data[0] = NaN;
    const parsed = parseLora([...lora.values()].map((t) => t.info));
    const [target] = resolveLora(parsed, infos, buildKeyMap(infos)).targets;
    const source = { path: "l.safetensors", read: (t: TensorInfo) => lora.get(t.name)!.data };
    assert.throws(() => prepareDelta(target!, source, { strength: 1 }), (error: unknown) => {
      assert.ok(error instanceof FormatError);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("matrixShape() flattens all axes but the first", () => {
  assert.deepEqual([[], [5], [5, 4], [5, 4, 3, 3]].map((s) => matrixShape(s)), [
    [1, 1],
    [5, 1],
    [5, 4],
    [5, 36],
  ]);
});
