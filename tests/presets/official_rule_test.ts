import { ok } from "node:assert/strict";
import { officialKeepReason } from "../../src/presets/official_rule.ts";
import { weight } from "./model_names.ts";

const quantizes = (name: string, shape?: readonly number[]) =>
  officialKeepReason(weight(`${name}.weight`, shape)) === null;

Deno.test("officialKeepReason() takes large matrices inside numbered blocks only", () => {
  ok(quantizes("blocks.0.attn.q"));
  ok(quantizes("label_emb.0.0"), "the first number is a block");
  ok(!quantizes("time_in.mlp.0"), "the only number is the last segment");
  ok(!quantizes("img_in"));
  ok(quantizes("blocks.0.attn.q", [256, 256]));
  ok(!quantizes("blocks.0.attn.q", [255, 4096]));
  ok(!quantizes("blocks.0.attn.q", [4096, 255]));
});

Deno.test("officialKeepReason() keeps matrices that no rotation group divides", () => {
  ok(quantizes("visual.blocks.0.mlp.gate_proj", [3420, 1280]));
  ok(!quantizes("visual.blocks.0.mlp.down_proj", [1280, 3420]));
});

Deno.test("officialKeepReason() keeps segments that contain a steering word", () => {
  for (
    const name of [
      "blocks.0.t_embedder.mlp",
      "blocks.0.to_gate_logits",
      "txtfusion.refiner_blocks.0.attn.wq",
      "llm_adapter.blocks.0.attn.q_proj",
      "blocks.0.guidance_in",
      "blocks.0.text_embedding",
    ]
  ) ok(!quantizes(name), name);
});

Deno.test("officialKeepReason() compares words, separated by underscores, and runs of words", () => {
  ok(!quantizes("blocks.0.time_mixer"));
  ok(!quantizes("blocks.0.timestep_proj"));
  ok(quantizes("blocks.0.daytime"));
  ok(!quantizes("blocks.0.final_norm"));
  ok(quantizes("blocks.0.finals"));
  ok(!quantizes("blocks.0.audio_head"));
  ok(quantizes("blocks.0.heads"));
  ok(!quantizes("input_blocks.4.1.proj_out"));
  ok(!quantizes("blocks.0.audio_proj_out"));
  ok(quantizes("blocks.0.proj_outer"));
  ok(!quantizes("blocks.0.out_layer"));
  ok(quantizes("blocks.0.out_layers"));
  ok(!quantizes("blocks.0.shared"), "a token embedding");
  ok(quantizes("blocks.0.shared_experts"));
});
