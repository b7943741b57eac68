import assert from "node:assert/strict";
import { isAdapterKey } from "../../src/presets/lora_keys.ts";

/** One name for every spelling of an adapter's tensors, choices in them included. */
const ADAPTER_NAMES = [
  ...["lora", "lycoris", "oft", "boft"].map((kind) => `${kind}_unet_a.weight`),
  ...["te", "te1", "transformer", "prior", "llm"].map((part) => `lora_${part}_a.alpha`),
  ...["A", "B", "C", "up", "down", "mid", "embedding_A", "embedding_B", "magnitude_vector"]
    .map((role) => `a.lora_${role}.weight`),
  "a.to_q_lora.down.weight",
  "a.to_q.lora.up.weight",
  "a.qkv_lora1.down.weight",
  "a.lora_linear_layer.b",
  ...["hada_w1_a", "hada_t1", "lokr_w1", "lokr_w2_b", "lokr_t2", "dora_scale"]
    .map((part) => `a.${part}`),
  ...["oft_blocks", "oft_diag", "oft_R", "boft_R", "boft_s", "vera_lambda_b", "vera_lambda_d"]
    .map((part) => `a.${part}`),
  "a.ia3_l",
  ...["diff", "diff_b", "diff_m", "set_weight"].map((part) => `a.${part}`),
];

Deno.test("isAdapterKey() knows every spelling of an adapter's tensors", () => {
  for (const name of ADAPTER_NAMES) assert.equal(isAdapterKey(name), true, name);
});

Deno.test("isAdapterKey() takes no model's names for an adapter's", () => {
  for (const name of ["blocks.0.weight", "a.lora", "lora_a.b", "a.diffusion.weight", "a.dora_x"]) {
    assert.equal(isAdapterKey(name), false, name);
  }
});
