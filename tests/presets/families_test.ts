import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { detect } from "../../src/presets/detect.ts";
import type { Tier } from "../../src/presets/preset.ts";
import { layerRule } from "../../src/presets/rule.ts";
import { loadHeader } from "../support/header_files.ts";
import { detected, quantizedBy, weight } from "./model_names.ts";

/** Layers that the balanced list of a family quantizes and keeps, by the names of its checkpoints. */
const LISTS: Readonly<Record<string, { quantized: string[]; kept: string[] }>> = {
  kandinsky5: {
    quantized: [
      "visual_transformer_blocks.3.self_attention.out_layer",
      "visual_transformer_blocks.3.feed_forward.in_layer",
      "visual_transformer_blocks.3.feed_forward.out_layer",
      "text_transformer_blocks.0.self_attention.to_query",
    ],
    kept: [
      "visual_embeddings.in_layer",
      "pooled_text_embeddings.in_layer",
      "time_embeddings.out_layer",
      "visual_transformer_blocks.3.visual_modulation.out_layer",
      "text_transformer_blocks.0.text_modulation.out_layer",
      "out_layer.modulation.out_layer",
      "out_layer.out_layer",
    ],
  },
  kandinsky6: {
    quantized: [
      "visual_blocks.3.videoT.self_attention.out_layer",
      "visual_blocks.3.va_cross_attention.to_key",
      "visual_transformer_blocks.3.video_dec_block.feed_forward.net.2",
    ],
    kept: [
      "visual_blocks.3.va_modulation.out_layer",
      "visual_blocks.3.videoT.visual_modulation.out_layer",
      "audio_embeddings.in_layer",
      "visual_token_type_embeddings",
      "audio_outLayer.out_layer",
      "out_layer.out_layer",
    ],
  },
  sensenova_u1: {
    quantized: [
      "language_model.model.layers.0.self_attn.q_proj",
      "language_model.model.layers.0.self_attn.q_proj_mot_gen",
      "language_model.model.layers.0.mlp_mot_gen.gate_proj",
    ],
    kept: [
      "fm_modules.fm_head.0",
      "fm_modules.vision_model_mot_gen.x",
      "vision_model.patch_embed",
      "language_model.lm_head",
      "language_model.model.layers.0.input_layernorm_mot_gen",
    ],
  },
  prism: {
    quantized: ["fusion_blocks.0.video_block.self_attn.q", "remaining_video_blocks.0.ffn.0"],
    kept: ["video_dit.text_embedding.0", "audio_dit.head.head", "video_dit.time_projection.1"],
  },
  joyimage: {
    quantized: ["double_blocks.0.attn.img_attn_qkv", "double_blocks.0.txt_mlp.net.2"],
    kept: ["condition_embedder.time_proj", "proj_out"],
  },
  mage_flow: {
    quantized: ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.img_mod.1"],
    kept: ["time_text_embed.timestep_embedder.linear_1", "img_in", "txt_in", "proj_out"],
  },
  minimax_h3: {
    quantized: ["blocks.3.attn.qkv_proj", "blocks.3.mlp.fc1"],
    kept: ["blocks.3.adaln_proj.linear", "adaln_t_table", "token_refiner.blocks.0.mlp.fc1"],
  },
  minimax_h3_vae: {
    quantized: ["decoder.transformer_blocks.0.attn.to_qkv", "decoder.transformer_blocks.0.ff.w1"],
    kept: ["decoder.x_embedder", "decoder.proj_out", "encoder.mid.attn_1.q"],
  },
  seedvr2: {
    quantized: ["blocks.0.attn.proj_qkv.vid", "blocks.31.mlp.all.proj_in_gate"],
    kept: ["vid_in.proj", "txt_in", "emb_in.proj_hid", "vid_out.proj"],
  },
  ace_step15: {
    quantized: ["decoder.layers.0.self_attn.q_proj", "encoder.lyric_encoder.layers.0.mlp.up_proj"],
    kept: [
      "decoder.time_embed.time_proj",
      "decoder.time_embed_r.linear_1",
      "decoder.condition_embedder",
      "encoder.text_projector",
      "encoder.lyric_encoder.embed_tokens",
      "encoder.timbre_encoder.layers.0.mlp.up_proj",
      "tokenizer.audio_acoustic_proj",
      "detokenizer.proj_out",
    ],
  },
  hidream_i1: {
    quantized: [
      "double_stream_blocks.0.block.attn1.to_q",
      "double_stream_blocks.0.block.ff_i.experts.3.w1",
      "single_stream_blocks.0.block.adaLN_modulation.1",
    ],
    kept: [
      "caption_projection.3.linear",
      "t_embedder.timestep_embedder.linear_1",
      "p_embedder.pooled_embedder.linear_1",
      "final_layer.linear",
    ],
  },
  cosmos_predict2: {
    quantized: ["blocks.0.mlp.layer1", "blocks.0.adaln_modulation_mlp.1"],
    kept: ["x_embedder.proj.1", "t_embedder.1.linear_1", "final_layer.linear"],
  },
  omnigen2: {
    quantized: ["layers.0.attn.to_q", "noise_refiner.0.feed_forward.linear_1"],
    kept: ["x_embedder", "time_caption_embed.caption_embedder.1", "norm_out.linear_1"],
  },
  cogvideox: {
    quantized: ["blocks.0.q", "blocks.0.attn_out", "blocks.0.ff_proj"],
    kept: ["patch_embed.text_proj", "time_embedding_linear_1", "norm_out.linear", "proj_out"],
  },
  te_gpt_oss: {
    quantized: ["model.layers.0.self_attn.q_proj"],
    kept: ["lm_head", "model.embed_tokens"],
  },
  te_qwen3_moe: {
    quantized: [
      "model.layers.0.self_attn.q_proj",
      "model.layers.0.mlp.experts.5.gate_proj",
      "model.layers.0.mlp.shared_expert.up_proj",
    ],
    kept: ["lm_head", "model.visual.blocks.0.mlp.fc1"],
  },
  te_ming: {
    quantized: [
      "thinker.layers.3.attention.query_key_value",
      "thinker.layers.3.mlp.shared_experts.up_proj",
    ],
    kept: ["vision.blocks.0.mlp.up_proj", "proj_in", "linear_proj.0"],
  },
  hunyuan_image3: {
    quantized: ["model.layers.3.self_attn.qkv_proj", "model.layers.3.mlp.shared_mlp.down_proj"],
    kept: ["model.wte", "lm_head", "final_layer.model.0", "vision_model.encoder.layers.0.mlp.fc1"],
  },
};

function ruleOf(family: string, tier: Tier) {
  return layerRule({
    tier,
    detection: detected(family),
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
  });
}

for (const [family, { quantized, kept }] of Object.entries(LISTS)) {
  Deno.test(`layerRule() follows the keep-list of ${family}`, () => {
    const names = [...quantized, ...kept].map((layer) => `${layer}.weight`);
    deepStrictEqual(
      quantizedBy(ruleOf(family, "balanced"), names.map((name) => weight(name))),
      quantized.map((layer) => `${layer}.weight`),
    );
  });
}

Deno.test("layerRule() takes of LTX-2.5 what the official file takes: blocks 2 to 45, gates included", () => {
  const prefix = "model.diffusion_model.";
  const tensors = [
    ...loadHeader("ltx-2.3-22b-aio-dit"),
    weight(`${prefix}keyframes_abs_pos_embedding`, [1, 4096]),
  ];
  const detection = detect(tensors);
  strictEqual(detection.family, "ltxav25");
  const rule = layerRule({
    tier: "balanced",
    detection,
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
  });
  const layers = quantizedBy(rule, tensors);
  strictEqual(layers.length, 1496);
  const blocks = new Set(layers.map((name) => Number(/blocks\.(\d+)\./.exec(name)![1])));
  deepStrictEqual([Math.min(...blocks), Math.max(...blocks), blocks.size], [2, 45, 44]);
  strictEqual(layers.filter((name) => name.endsWith(".to_gate_logits.weight")).length, 44 * 6);
});

Deno.test("layerRule() keeps the generating half of SenseNova in the conservative tier", () => {
  const names = ["self_attn.q_proj", "self_attn.q_proj_mot_gen", "mlp_mot_gen.up_proj"]
    .map((part) => weight(`language_model.model.layers.5.${part}.weight`));
  deepStrictEqual(
    quantizedBy(ruleOf("sensenova_u1", "conservative"), names),
    [names[0]!.name],
  );
});

Deno.test("layerRule() takes the expert banks of gpt-oss in every tier, edge layers apart", () => {
  const tensors = loadHeader("gpt-oss-20b-te");
  const banks = (["minimal", "balanced", "conservative"] as const).map((tier) =>
    quantizedBy(
      layerRule({
        tier,
        detection: detect(tensors),
        preset: { kind: "auto" },
        excludeLayers: null,
        lora: false,
      }),
      tensors.filter(({ shape }) => shape.length === 3),
    ).length
  );
  deepStrictEqual(banks, [24 * 2, 24 * 2, 22 * 2]);
});
