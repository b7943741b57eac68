import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { detect } from "../../src/presets/detect.ts";
import { layerRule } from "../../src/presets/rule.ts";
import {
  rawModule,
  unusableFile,
  unusableFiles,
  unusablePart,
} from "../../src/presets/unusable.ts";
import { loadHeader } from "../support/header_files.ts";
import { detected, model, quantizedBy, weight } from "./model_names.ts";

/** Routers and gates of experts in the spellings of many models, 64 experts. */
const ROUTERS = [
  "model.layers.0.mlp.router", // gpt-oss
  "model.language_model.layers.0.router.proj", // Gemma 4
  "model.layers.0.mlp.gate", // Qwen3-MoE
  "model.layers.0.mlp.shared_expert_gate",
  "thinker.layers.1.mlp.gate.proj", // Ming
  "thinker.layers.1.mlp.image_gate.proj",
  "model.layers.0.mlp.gate.wg", // HunyuanImage 3
  "double_stream_blocks.0.block.ff_i.gate", // HiDream-I1
  "model.layers.0.block_sparse_moe.gate", // Mixtral
  "model.layers.0.feed_forward.router", // Llama 4
];

Deno.test("layerRule() keeps routers and gates of experts whatever preset is asked for", () => {
  const tensors = ROUTERS.map((layer) => weight(`${layer}.weight`, [64, 2048]));
  for (const preset of ["auto", "none"] as const) {
    for (const family of [null, "te_qwen3_moe", "hidream_i1"]) {
      const rule = layerRule({
        tier: "balanced",
        detection: detected(family),
        preset: { kind: preset },
        excludeLayers: null,
        lora: false,
      });
      deepStrictEqual(quantizedBy(rule, tensors), [], `${preset} ${family}`);
    }
  }
});

Deno.test("rawModule() leaves gates alone that are linear layers", () => {
  for (
    const layer of ["blocks.0.mlp.gate", "blocks.0.attn.gate", "model.layers.0.mlp.gate_proj"]
  ) {
    strictEqual(rawModule(weight(`${layer}.weight`, [16384, 6144])), null, layer);
  }
  strictEqual(rawModule(weight("blocks.0.attn.to_gate_logits.weight", [32, 4096])), null);
});

Deno.test("unusableFile() names what has no quantized path, by any spelling of its names", () => {
  const cases: readonly [string, readonly string[]][] = [
    ["vision-quantized", ["vision_model.encoder.layers.0.mlp.fc1.weight"]],
    ["vision-quantized", ["visual.transformer.resblocks.0.attn.in_proj_weight", "a.weight"]],
    ["vision-quantized", ["vision_model.embeddings.patch_embedding.weight"]], // SigLIP
    ["vision-quantized", ["encoder.layer.0.layer_scale1.lambda1"]], // DINO
    ["clip-quantized", ["text_model.encoder.layers.0.mlp.fc1.weight"]],
    ["controlnet-quantized", ["controlnet_blocks.0.weight"]],
    ["controlnet-quantized", ["control_layers.0.attention.qkv.weight"]],
    ["controlnet-quantized", ["model.diffusion_model.control_layers.0.attention.qkv.weight"]],
    ["controlnet-quantized", ["control_all_x_embedder.2-1.weight", "x.weight"]],
    ["controlnet-quantized", ["controlnet_patch_embedding.weight"]],
    ["lora-quantized", ["diffusion_model.a.lora_A.weight", "diffusion_model.a.lora_B.weight"]],
    ["diffusers-quantized", ["single_transformer_blocks.0.attn.to_q.weight"]],
    ["vae-quantized", ["decoder.conv_in.weight", "decoder.mid.attn_1.q.weight"]],
  ];
  for (const [rule, names] of cases) {
    const tensors = model(names);
    strictEqual(unusableFile(tensors, detect(tensors))?.rule, rule, names.join());
  }
});

Deno.test("unusableFile() lets models pass that hold such a part, and the VAE of MiniMax H3", () => {
  for (
    const names of [
      ["model.layers.0.self_attn.q_proj.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"],
      [
        "decoder.transformer_blocks.0.scale1",
        "decoder.transformer_blocks.0.attn.to_qkv.weight",
        "encoder.down.5.block.0.conv1.weight",
        "post_quant_conv.weight",
      ],
      ["odd_blocks.0.q.weight"],
    ]
  ) {
    const tensors = model(names);
    strictEqual(unusableFile(tensors, detect(tensors)), null, names.join());
  }
  const flux = loadHeader("flux2-klein-4b");
  strictEqual(unusableFile(flux, detect(flux)), null);
});

Deno.test("unusablePart() knows text encoders and VAEs inside a checkpoint", () => {
  strictEqual(
    unusablePart("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight")
      ?.rule,
    "clip-quantized",
  );
  strictEqual(unusablePart("first_stage_model.decoder.mid.attn_1.q.weight")?.rule, "vae-quantized");
  strictEqual(unusablePart("vae.decoder.transformer_blocks.0.attn.to_qkv.weight"), null);
  strictEqual(unusablePart("blocks.0.q.weight"), null);
});

Deno.test("unusableFiles() knows an index with its shards, and a shard without the others", () => {
  strictEqual(unusableFiles(["a-00001-of-00002.safetensors", "b"])?.rule, "sharded");
  const lone = unusableFiles(["/x/model.fp16-00002-of-00003.safetensors"]);
  deepStrictEqual([lone?.rule, /shard 2 of 3/.test(lone?.what ?? "")], ["lone-shard", true]);
  strictEqual(unusableFiles(["model-00001-of-00001.safetensors"]), null);
  strictEqual(unusableFiles(["model.safetensors"]), null);
});
