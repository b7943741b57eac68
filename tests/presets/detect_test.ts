import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import fc from "fast-check";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { detect } from "../../src/presets/detect.ts";
import { loadHeader } from "../support/header_files.ts";
import { model, weight } from "./model_names.ts";

/** The compared result: family or layout. */
function kindOf(tensors: readonly TensorInfo[]): string {
  const { family, layout } = detect(tensors);
  return family ?? layout;
}

/** Names particular to families without a packed header, as their checkpoints have them. */
const BY_NAME: Readonly<Record<string, readonly string[]>> = {
  chroma_radiance: [
    "distilled_guidance_layer.norms.0.scale",
    "double_blocks.0.img_attn.norm.key_norm.scale",
    "nerf_blocks.0.norm.scale",
    "nerf_blocks.0.param_generator.weight",
    "img_in_patch.weight",
    "txt_in.weight",
    "__x0__",
  ],
  krea2: ["txtfusion.projector.weight", "first.weight", "blocks.0.attn.wq.weight", "tmlp.0.weight"],
  ideogram4: [
    "embed_image_indicator.weight",
    "layers.0.attention.qkv.weight",
    "layers.0.feed_forward.w2.weight",
    "llm_cond_proj.weight",
  ],
  anima: [
    "blocks.0.mlp.layer1.weight",
    "llm_adapter.blocks.0.cross_attn.q_proj.weight",
    "x_embedder.proj.1.weight",
  ],
  boogu: [
    "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",
    "single_stream_layers.0.attn.to_q.weight",
    "time_caption_embed.timestep_embedder.linear_1.bias",
    "ref_image_refiner.0.attn.to_q.weight",
    "x_embedder.weight",
  ],
  ernie_image: [
    "layers.0.mlp.linear_fc2.weight",
    "layers.0.self_attention.to_q.weight",
    "adaLN_modulation.1.weight",
    "x_embedder.proj.weight",
  ],
  hidream_o1: [
    "t_embedder1.mlp.0.weight",
    "x_embedder.proj1.weight",
    "language_model.layers.0.self_attn.q_proj.weight",
    "visual.blocks.0.mlp.linear_fc2.weight",
  ],
  lens: [
    "transformer_blocks.0.attn.norm_added_q.weight",
    "transformer_blocks.0.img_mlp.w1.weight",
    "transformer_blocks.0.img_mod.1.weight",
    "txt_norm.weight",
    "img_in.weight",
    "proj_out.weight",
  ],
  minimax_h3: [
    "video_patch_proj.weight",
    "audio_patch_proj.weight",
    "blocks.0.attn.qkv_proj.weight",
    "token_refiner.blocks.0.attn.qkv_proj.weight",
    "time_embedder.proj_in.weight",
  ],
  kandinsky5: [
    "visual_transformer_blocks.0.cross_attention.key_norm.weight",
    "visual_embeddings.in_layer.weight",
    "out_layer.out_layer.weight",
  ],
  kandinsky6: [
    "visual_blocks.0.va_modulation.out_layer.weight",
    "visual_blocks.0.videoT.self_attention.to_query.weight",
    "audio_embeddings.in_layer.weight",
  ],
  sensenova_u1: [
    "language_model.model.layers.0.self_attn.q_proj.weight",
    "language_model.model.layers.0.self_attn.q_proj_mot_gen.weight",
    "fm_modules.vision_model_mot_gen.embeddings.patch_embedding.weight",
  ],
  prism: [
    "fusion_blocks.0.video_block.self_attn.q.weight",
    "fusion_blocks.0.audio_block.self_attn.q.weight",
    "video_dit.head.modulation",
    "audio_dit.head.modulation",
  ],
  joyimage: [
    "double_blocks.0.attn.img_attn_qkv.weight",
    "double_blocks.0.attn.img_attn_q_norm.weight",
    "condition_embedder.time_embedder.linear_1.weight",
    "img_in.weight",
  ],
  minimax_h3_vae: [
    "decoder.transformer_blocks.0.scale1",
    "decoder.transformer_blocks.0.attn.to_qkv.weight",
    "encoder.down.5.block.0.conv1.weight",
    "quant_conv.weight",
  ],
  ltxav25: [
    "adaln_single.emb.timestep_embedder.linear_1.bias",
    "audio_adaln_single.linear.weight",
    "keyframes_abs_pos_embedding",
    "transformer_blocks.0.attn1.to_gate_logits.weight",
  ],
  seedvr2: [
    "vid_in.proj.weight",
    "vid_out.proj.weight",
    "blocks.0.attn.proj_qkv.vid.weight",
    "blocks.31.mlp.all.proj_in_gate.weight",
  ],
  ace_step15: [
    "encoder.lyric_encoder.layers.0.input_layernorm.weight",
    "decoder.layers.0.self_attn_norm.weight",
    "decoder.layers.0.mlp.gate_proj.weight",
  ],
  hidream_i1: [
    "caption_projection.0.linear.weight",
    "double_stream_blocks.0.block.attn1.to_q.weight",
  ],
  cosmos_predict2: ["blocks.0.mlp.layer1.weight", "x_embedder.proj.1.weight"],
  omnigen2: [
    "time_caption_embed.timestep_embedder.linear_1.bias",
    "layers.0.attn.to_q.weight",
    "ref_image_refiner.0.attn.to_q.weight",
  ],
  cogvideox: ["blocks.0.norm1.linear.weight", "blocks.0.q.weight", "patch_embed.text_proj.weight"],
  te_clip_l_g: ["text_model.encoder.layers.0.mlp.fc1.weight", "text_projection.weight"],
};

for (const [family, names] of Object.entries(BY_NAME)) {
  Deno.test(`detect() knows ${family} by its names, behind every prefix`, () => {
    for (
      const prefix of ["", "model.diffusion_model.", "model.model.", "net.", "diffusion_model."]
    ) {
      const found = detect(model(names.map((name) => prefix + name)));
      deepStrictEqual([found.family, found.prefix, found.layout], [family, prefix, "native"]);
    }
  });
}

Deno.test("detect() takes model. for a prefix of diffusion models but not of text encoders", () => {
  const o1 = BY_NAME.hidream_o1!.map((name) => `model.${name}`)
    .concat("lm_head.weight", "model.language_model.layers.0.self_attn.q_proj.weight");
  deepStrictEqual([detect(model(o1)).family, detect(model(o1)).prefix], ["hidream_o1", "model."]);
  const llm = detect(loadHeader("qwen3-4b-te"));
  deepStrictEqual([llm.family, llm.prefix], ["te_llama_qwen_gemma_mistral", ""]);
});

Deno.test("detect() recognises variants of a family by the same rule", () => {
  const wan = ["head.modulation", "head.head.weight", "blocks.0.self_attn.q.weight"];
  const flux = ["img_in.weight", "double_blocks.0.img_attn.norm.key_norm.scale"];
  const cases: readonly [string, readonly string[]][] = [
    ["wan", [...wan, "vace_patch_embedding.weight", "vace_blocks.0.before_proj.weight"]],
    ["wan", [
      ...wan,
      "face_adapter.fuser_blocks.0.k_norm.weight",
      "motion_encoder.dec.direction.weight",
    ]],
    ["wan", [...wan, "control_adapter.conv.weight"]],
    ["wan", [...wan, "casual_audio_encoder.encoder.final_linear.weight"]],
    ["flux1", [...flux, "guidance_in.in_layer.weight"]],
    ["flux1", flux],
    ["qwen_image", [
      "txt_norm.weight",
      "transformer_blocks.0.img_mod.1.weight",
      "__index_timestep_zero__",
    ]],
    ["qwen_image", ["txt_norm.weight", "time_text_embed.addition_t_embedding.weight"]],
    ["hunyuan_video", [
      "txt_in.individual_token_refiner.blocks.0.norm1.weight",
      "img_in.proj.weight",
      "double_blocks.0.img_attn.norm.key_norm.weight",
    ]],
    ["te_t5", [
      "encoder.block.0.layer.0.SelfAttention.k.weight",
      "decoder.block.0.layer.0.SelfAttention.k.weight",
    ]],
    ["te_llama_qwen_gemma_mistral", [
      "model.language_model.layers.0.self_attn.q_proj.weight",
      "model.visual.deepstack_merger_list.0.norm.weight",
    ]],
    ["te_llama_qwen_gemma_mistral", [
      "model.layers.0.linear_attn.in_proj_qkv.weight",
      "model.layers.3.self_attn.q_proj.weight",
    ]],
    ["kandinsky6", ["visual_transformer_blocks.0.va_modulation.out_layer.weight"]],
    ["prism", ["video_dit.blocks.0.self_attn.q.weight", "audio_dit.x", "dual_tower_bridge.y"]],
    ["minimax_h3", ["video_patch_proj.weight", "audio_patch_proj.weight", "adaln_t_table"]],
    ["seedvr2", ["vid_in.proj.weight", "vid_out.proj.weight", "blocks.0.attn.proj_qkv.all.weight"]],
    ["te_gpt_oss", ["model.layers.0.self_attn.sinks", "model.layers.0.mlp.experts.gate_up_proj"]],
    ["te_gpt_oss", ["layers.0.self_attn.sinks", "layers.0.mlp.experts.gate_up_proj.weight"]],
    ["te_qwen3_moe", [
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.mlp.experts.0.gate_proj.weight",
    ]],
    ["te_qwen3_moe", [
      "model.language_model.layers.0.self_attn.q_proj.weight",
      "model.language_model.layers.0.mlp.experts.gate_up_proj",
    ]],
    ["te_ming", [
      "thinker.layers.1.attention.query_key_value.weight",
      "thinker.layers.1.mlp.experts.gate_up_proj.weight",
    ]],
    ["hunyuan_image3", ["model.layers.0.mlp.gate.wg.weight"]],
    ["te_clip_l_g", ["transformer.resblocks.0.mlp.c_fc.weight", "token_embedding.weight"]],
  ];
  for (const [family, names] of cases) strictEqual(kindOf(model(names)), family, names.join());
});

Deno.test("detect() distinguishes look-alikes by shape", () => {
  const cap = (rows: number) => [
    weight("cap_embedder.1.weight", [rows, 2560]),
    weight("noise_refiner.0.attention.k_norm.weight", [128]),
  ];
  strictEqual(kindOf(cap(3840)), "z_image");
  strictEqual(kindOf(cap(2304)), "lumina2");
  strictEqual(kindOf(cap(1024)), "unknown");

  const qwen = (norm: number, out: number) => [
    weight("txt_norm.weight", [norm]),
    weight("proj_out.weight", [out, 3072]),
  ];
  strictEqual(kindOf(qwen(3584, 64)), "qwen_image");
  strictEqual(kindOf(qwen(2560, 128)), "mage_flow");

  const unet = (columns: number) => [
    weight("input_blocks.0.0.weight", [320, 4, 3, 3]),
    weight("label_emb.0.0.weight", [1280, columns]),
  ];
  strictEqual(kindOf(unet(2816)), "sdxl");
  strictEqual(kindOf(unet(2560)), "sdxl", "the refiner");
  strictEqual(kindOf(unet(2048)), "unknown", "SD 2.1 unCLIP");
});

Deno.test("detect() gives no family to models that only resemble one", () => {
  const cases: Readonly<Record<string, readonly string[]>> = {
    "SD 1.5": [
      "input_blocks.0.0.weight",
      "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    ],
    "Stable Video Diffusion": [
      "input_blocks.0.0.weight",
      "label_emb.0.0.weight",
      "input_blocks.1.1.time_stack.0.attn1.to_q.weight",
    ],
    "Flux Redux": ["redux_up.weight", "redux_down.weight"],
    "CLIP vision": ["vision_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight"],
    "an image VAE": ["encoder.down.0.block.0.conv1.weight", "decoder.mid.attn_1.q.weight"],
    "a diffusers VAE": [
      "encoder.down_blocks.0.resnets.0.conv1.weight",
      "encoder.conv_in.weight",
      "decoder.up_blocks.0.resnets.0.conv1.weight",
      "quant_conv.weight",
    ],
    "a Wan VAE": [
      "encoder.head.2.weight",
      "decoder.head.0.gamma",
      "decoder.middle.0.residual.0.gamma",
    ],
    "a vocoder": ["resblocks.0.activations.0.act.alpha", "conv_pre.weight"],
    "a textual inversion": ["emb_params"],
    "an IP adapter": ["image_proj.latents", "ip_adapter.1.to_k_ip.weight"],
    "a model that generates with a language model": [
      "language_model.model.layers.0.self_attn.q_proj.weight",
      "vae2llm.weight",
    ],
    "nothing": [],
  };
  for (const [what, names] of Object.entries(cases)) {
    const { family, layout } = detect(model(names));
    deepStrictEqual([family, layout], [null, "unknown"], what);
  }
});

Deno.test("detect() is not deceived by ControlNets, which copy half a model", () => {
  const cases: readonly (readonly string[])[] = [
    ["double_blocks.0.img_attn.norm.key_norm.scale", "img_in.weight", "controlnet_blocks.0.weight"],
    ["input_blocks.0.0.weight", "label_emb.0.0.weight", "zero_convs.0.0.weight"],
    ["control_model.input_blocks.0.0.weight", "control_model.label_emb.0.0.weight"],
    ["transformer_blocks.0.attn.add_q_proj.weight", "controlnet_x_embedder.weight"],
    [
      "down_blocks.0.resnets.0.conv1.weight",
      "up_blocks.0.x.weight",
      "conv_in.weight",
      "time_embedding.linear_1.weight",
      "controlnet_cond_embedding.conv_in.weight",
    ],
    ["joint_blocks.0.context_block.attn.qkv.weight", "controlnet_blocks.0.weight"],
  ];
  for (const names of cases) {
    const { family, layout, evidence } = detect(model(names));
    deepStrictEqual([family, layout], [null, "unknown"], names.join());
    strictEqual(evidence.length, 1);
  }
});

Deno.test("detect() recognises diffusers layouts, whose names no keep-list fits", () => {
  const cases: Readonly<Record<string, readonly string[]>> = {
    "Flux": [
      "single_transformer_blocks.0.attn.to_q.weight",
      "transformer_blocks.0.attn.to_q.weight",
    ],
    "Flux.2": [
      "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",
      "double_stream_modulation_img.linear.weight",
    ],
    "Chroma": [
      "distilled_guidance_layer.norms.0.weight",
      "single_transformer_blocks.0.attn.to_q.weight",
    ],
    "SD3": ["transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"],
    "Wan": ["condition_embedder.time_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"],
    "Z-Image": [
      "layers.0.attention.to_q.weight",
      "cap_embedder.1.weight",
      "all_x_embedder.2-1.weight",
    ],
    "Lumina 2": ["layers.0.attn.to_q.weight", "time_caption_embed.caption_embedder.1.weight"],
    "HunyuanVideo": [
      "context_embedder.token_refiner.refiner_blocks.0.norm1.weight",
      "single_transformer_blocks.0.attn.to_q.weight",
    ],
    "HunyuanVideo 1.5": ["transformer_blocks.0.attn.add_q_proj.weight", "x_embedder.proj.weight"],
    "LTX-Video": [
      "proj_in.weight",
      "time_embed.linear.weight",
      "transformer_blocks.0.attn1.to_q.weight",
    ],
    "PixArt": [
      "adaln_single.emb.timestep_embedder.linear_1.bias",
      "pos_embed.proj.bias",
      "transformer_blocks.0.attn1.to_q.weight",
    ],
    "Sana": ["transformer_blocks.0.ff.conv_inverted.weight", "patch_embed.proj.weight"],
    "SDXL": [
      "conv_in.weight",
      "time_embedding.linear_1.weight",
      "up_blocks.0.resnets.0.conv1.weight",
      "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight",
      "down_blocks.0.resnets.0.conv1.weight",
      "add_embedding.linear_1.weight",
    ],
    "Krea 2": ["text_fusion.projector.weight", "transformer_blocks.0.attn.to_q.weight"],
  };
  for (const [what, names] of Object.entries(cases)) {
    for (const prefix of ["", "transformer.", "model.diffusion_model."]) {
      const found = detect(model(names.map((name) => prefix + name)));
      deepStrictEqual(
        [found.family, found.layout, found.prefix],
        [null, "diffusers", prefix],
        what,
      );
    }
  }
});

Deno.test("detect() recognises every spelling of a LoRA, never as the model it is for", () => {
  const cases: readonly (readonly string[])[] = [
    [
      "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
      "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight",
      "lora_unet_double_blocks_0_img_attn_proj.alpha",
    ],
    ["lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"],
    [
      "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
      "diffusion_model.blocks.0.self_attn.q.lora_B.weight",
    ],
    ["base_model.model.transformer_blocks.0.attn.to_q.lora_A.default.weight"],
    [
      "transformer.transformer_blocks.0.attn.to_q.lora_A",
      "transformer.transformer_blocks.0.attn.to_q.lora_B",
    ],
    ["blocks.0.self_attn.q.lora_down.weight", "head.modulation.diff", "blocks.0.norm3.diff_b"],
    ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"],
    ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.up.weight"],
    ["text_encoder.text_model.encoder.layers.0.self_attn.k_proj.lora_linear_layer.up.weight"],
    [
      "double_blocks.0.processor.qkv_lora1.down.weight",
      "double_blocks.0.processor.proj_lora2.up.weight",
    ],
    ["lora_unet_input_blocks_1_1_proj_in.hada_w1_a", "lora_unet_input_blocks_1_1_proj_in.alpha"],
    [
      "lycoris_double_blocks_0_img_attn_proj.lokr_w1",
      "lycoris_double_blocks_0_img_attn_proj.lokr_w2_a",
    ],
    [
      "diffusion_model.layers.0.attention.qkv.lokr_w1",
      "diffusion_model.layers.0.attention.qkv.alpha",
    ],
    ["lora_unet_x.dora_scale", "lora_unet_x.lora_up.weight"],
    ["transformer_blocks.0.attn.to_q.oft_R.weight"],
    ["oft_unet_input_blocks_1_1_proj_in.oft_blocks"],
    [
      "transformer_blocks.0.attn.to_q.lora_magnitude_vector.default.weight",
      "transformer_blocks.0.attn.to_q.lora_A.default.weight",
    ],
  ];
  for (const names of cases) {
    const { family, layout, evidence } = detect(model(names));
    deepStrictEqual([family, layout], [null, "lora"], names.join());
    ok(evidence.length > 0);
  }
});

Deno.test("detect() keeps a model with a few adapter tensors a model", () => {
  const names = loadHeader("flux1-dev").map(({ name }) => name)
    .concat("double_blocks.0.img_attn.qkv.lora_down", "double_blocks.0.img_attn.qkv.lora_up");
  strictEqual(kindOf(model(names)), "flux1");
});

Deno.test("detect() knows quantized variants: the extra tensors do not disturb", () => {
  for (const name of ["flux2-klein-4b", "z-image-turbo", "wan2.2-ti2v-5b-fp16", "t5xxl-fp16"]) {
    const plain = loadHeader(name);
    const suffixes = [
      "comfy_quant",
      "weight_scale",
      "weight_scale_2",
      "input_scale",
      "scale_weight",
    ];
    const extra = plain.filter(({ shape }) => shape.length === 2).flatMap(({ name: weightName }) =>
      suffixes.map((suffix) => weight(weightName.replace(/weight$/, suffix), [1]))
    );
    const variant = detect([weight("scaled_fp8", [0]), ...extra, ...plain]);
    strictEqual(variant.family, detect(plain).family, name);
    deepStrictEqual(variant.stacks, detect(plain).stacks, name);
  }
});

Deno.test("detect() reports the prefix of an unknown model", () => {
  const names = Array.from(
    { length: 8 },
    (_, i) => `model.diffusion_model.odd_blocks.${i}.q.weight`,
  );
  strictEqual(detect(model(names)).prefix, "model.diffusion_model.");
  strictEqual(detect(model(names.slice(0, 3))).prefix, "", "three tensors are an accident");
});

Deno.test("detect() finds the stacks of blocks, largest first, without the prefix", () => {
  const { stacks } = detect(loadHeader("flux1-dev-fp8-scaled-old-prefixed"));
  deepStrictEqual(stacks.map(({ path, firstIndex, lastIndex }) => [path, firstIndex, lastIndex]), [
    ["double_blocks", 0, 18],
    ["single_blocks", 0, 37],
  ]);
});

Deno.test("detect() does not depend on the order of the tensors", () => {
  const tensors = loadHeader("flux2-klein-4b");
  const { family, stacks } = detect(tensors);
  fc.assert(
    fc.property(fc.shuffledSubarray(tensors, { minLength: tensors.length }), (shuffled) => {
      const again = detect(shuffled);
      deepStrictEqual([again.family, again.stacks], [family, stacks]);
    }),
    { numRuns: 10 },
  );
});
