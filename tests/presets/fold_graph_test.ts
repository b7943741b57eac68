import assert from "node:assert/strict";
import { foldGroups } from "../../src/presets/fold_graph.ts";

function shapes(entries: Record<string, readonly number[]>): Map<string, readonly number[]> {
  return new Map(Object.entries(entries));
}

const LLAMA = {
  "model.layers.0.input_layernorm.weight": [8],
  "model.layers.0.post_attention_layernorm.weight": [8],
  "model.layers.0.self_attn.q_proj.weight": [8, 8],
  "model.layers.0.self_attn.k_proj.weight": [8, 8],
  "model.layers.0.self_attn.v_proj.weight": [8, 8],
  "model.layers.0.self_attn.o_proj.weight": [8, 8],
  "model.layers.0.mlp.gate_proj.weight": [16, 8],
  "model.layers.0.mlp.up_proj.weight": [16, 8],
  "model.layers.0.mlp.down_proj.weight": [8, 16],
};

const producers = (entries: Record<string, readonly number[]>) =>
  foldGroups(shapes(entries)).map(({ producer }) => producer.name.replace(/^.*layers\.0\./, ""));

Deno.test("foldGroups() finds norms and linear layers that feed others in Llama-like encoders", () => {
  assert.deepEqual(producers(LLAMA), [
    "input_layernorm.weight",
    "self_attn.v_proj.weight",
    "post_attention_layernorm.weight",
    "mlp.up_proj.weight",
  ]);
  assert(
    foldGroups(shapes(LLAMA)).every(({ producer }) =>
      producer.kind === "rows" || !producer.addsOne
    ),
  );
});

Deno.test("foldGroups() does not fold values that several query heads share, nor layers with a bias", () => {
  const grouped = { ...LLAMA, "model.layers.0.self_attn.v_proj.weight": [4, 8] };
  assert(!producers(grouped).includes("self_attn.v_proj.weight"));
  const biased = { ...LLAMA, "model.layers.0.mlp.up_proj.bias": [16] };
  assert(!producers(biased).includes("mlp.up_proj.weight"));
});

Deno.test("foldGroups() takes the norm before the MLP of Gemma, and that it adds one", () => {
  const gemma = { ...LLAMA, "model.layers.0.pre_feedforward_layernorm.weight": [8] };
  const groups = foldGroups(shapes(gemma));
  const norms = groups.flatMap(({ producer }) => producer.kind === "norm" ? [producer] : []);
  assert.deepEqual(norms.map(({ name, addsOne }) => [name.replace(/^.*0\./, ""), addsOne]), [
    ["input_layernorm.weight", true],
    ["pre_feedforward_layernorm.weight", true],
  ]);
});

Deno.test("foldGroups() leaves linear attention and mixtures of experts alone", () => {
  assert.deepEqual(producers({ ...LLAMA, "model.layers.0.mlp.gate.weight": [4, 8] }), []);
  assert.deepEqual(
    producers({ ...LLAMA, "model.layers.0.linear_attn.in_proj_qkv.weight": [4, 8] }),
    [],
  );
});

Deno.test("foldGroups() finds those of T5, gated and not", () => {
  const block = "encoder.block.0.";
  const attention = Object.fromEntries(
    ["q", "k", "v", "o"].map((part) => [`${block}layer.0.SelfAttention.${part}.weight`, [8, 8]]),
  );
  const norms = {
    [`${block}layer.0.layer_norm.weight`]: [8],
    [`${block}layer.1.layer_norm.weight`]: [8],
  };
  const dense = `${block}layer.1.DenseReluDense.`;
  const gated = {
    ...norms,
    ...attention,
    [`${dense}wi_0.weight`]: [16, 8],
    [`${dense}wi_1.weight`]: [16, 8],
    [`${dense}wo.weight`]: [8, 16],
  };
  assert.equal(foldGroups(shapes(gated)).length, 4);
  const plain = {
    ...norms,
    ...attention,
    [`${dense}wi.weight`]: [16, 8],
    [`${dense}wo.weight`]: [8, 16],
  };
  assert.deepEqual(foldGroups(shapes(plain)).map(({ consumers }) => consumers.length), [
    3,
    1,
    1,
    1,
  ]);
});
