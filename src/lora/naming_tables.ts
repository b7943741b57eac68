/**
 * How LoRA files and models spell the same layer, as data (`naming_table.ts` explains the form).
 * `key_map.ts` reads these tables; nothing here runs.
 */

import { KREA2 } from "./krea2_names.ts";
import type { NamingTable } from "./naming_table.ts";
import { unetTable } from "./unet_names.ts";

/** FLUX.1, FLUX.2 and Chroma: Black Forest Labs' names and those of diffusers. */
const FLUX: NamingTable = {
  id: "flux",
  models: ["double_blocks.", "single_blocks.", "single_transformer_blocks."],
  renamed: [
    ["double_blocks.{i}.img_attn.qkv", "transformer_blocks.{i}.attn.to_qkv"],
    ["double_blocks.{i}.txt_attn.qkv", "transformer_blocks.{i}.attn.to_added_qkv"],
    ["double_blocks.{i}.img_attn.proj", "transformer_blocks.{i}.attn.to_out.0"],
    ["double_blocks.{i}.txt_attn.proj", "transformer_blocks.{i}.attn.to_add_out"],
    ["double_blocks.{i}.img_mlp.0", "transformer_blocks.{i}.ff.net.0.proj"],
    ["double_blocks.{i}.img_mlp.2", "transformer_blocks.{i}.ff.net.2"],
    ["double_blocks.{i}.txt_mlp.0", "transformer_blocks.{i}.ff_context.net.0.proj"],
    ["double_blocks.{i}.txt_mlp.2", "transformer_blocks.{i}.ff_context.net.2"],
    ["double_blocks.{i}.img_mod.lin", "transformer_blocks.{i}.norm1.linear"],
    ["double_blocks.{i}.txt_mod.lin", "transformer_blocks.{i}.norm1_context.linear"],
    ["single_blocks.{i}.linear2", "single_transformer_blocks.{i}.proj_out"],
    ["single_blocks.{i}.modulation.lin", "single_transformer_blocks.{i}.norm.linear"],
    ["img_in", "x_embedder"],
    ["txt_in", "context_embedder"],
    ["time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"],
    ["time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"],
    ["guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"],
    ["guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"],
    ["vector_in.in_layer", "time_text_embed.text_embedder.linear_1"],
    ["vector_in.out_layer", "time_text_embed.text_embedder.linear_2"],
    ["final_layer.linear", "proj_out"],
    // FLUX.2
    ["double_blocks.{i}.img_mlp.0", "transformer_blocks.{i}.ff.linear_in"],
    ["double_blocks.{i}.img_mlp.2", "transformer_blocks.{i}.ff.linear_out"],
    ["double_blocks.{i}.txt_mlp.0", "transformer_blocks.{i}.ff_context.linear_in"],
    ["double_blocks.{i}.txt_mlp.2", "transformer_blocks.{i}.ff_context.linear_out"],
    ["single_blocks.{i}.linear1", "single_transformer_blocks.{i}.attn.to_qkv_mlp_proj"],
    ["single_blocks.{i}.linear2", "single_transformer_blocks.{i}.attn.to_out"],
    ["double_stream_modulation_img.lin", "double_stream_modulation_img.linear"],
    ["double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"],
    ["single_stream_modulation.lin", "single_stream_modulation.linear"],
    ["time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"],
    ["time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"],
    ["guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"],
    ["guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"],
    // Chroma
    [
      "distilled_guidance_layer.layers.{i}.in_layer",
      "distilled_guidance_layer.layers.{i}.linear_1",
    ],
    [
      "distilled_guidance_layer.layers.{i}.out_layer",
      "distilled_guidance_layer.layers.{i}.linear_2",
    ],
    // Attention processors of the first FLUX.1 trainers
    ["double_blocks.{i}.img_attn.qkv", "double_blocks.{i}.processor.qkv_lora1"],
    ["double_blocks.{i}.txt_attn.qkv", "double_blocks.{i}.processor.qkv_lora2"],
    ["double_blocks.{i}.img_attn.proj", "double_blocks.{i}.processor.proj_lora1"],
    ["double_blocks.{i}.txt_attn.proj", "double_blocks.{i}.processor.proj_lora2"],
  ],
  fused: [
    {
      native: "double_blocks.{i}.img_attn.qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.to_q",
        "transformer_blocks.{i}.attn.to_k",
        "transformer_blocks.{i}.attn.to_v",
      ],
    },
    {
      native: "double_blocks.{i}.txt_attn.qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.add_q_proj",
        "transformer_blocks.{i}.attn.add_k_proj",
        "transformer_blocks.{i}.attn.add_v_proj",
      ],
    },
    {
      native: "single_blocks.{i}.linear1",
      layout: "qkvMlp",
      parts: [
        "single_transformer_blocks.{i}.attn.to_q",
        "single_transformer_blocks.{i}.attn.to_k",
        "single_transformer_blocks.{i}.attn.to_v",
        "single_transformer_blocks.{i}.proj_mlp",
      ],
    },
  ],
  swapped: [["final_layer.adaLN_modulation.1", "norm_out.linear"]],
};

/** HunyuanVideo 1.0 and 1.5: Tencent's names, ComfyUI's, those of diffusers. */
const HUNYUAN_VIDEO: NamingTable = {
  id: "hunyuan_video",
  models: ["txt_in.individual_token_refiner.", "context_embedder.token_refiner."],
  renamed: [
    // Tencent against ComfyUI
    ["double_blocks.{i}.img_attn_qkv", "double_blocks.{i}.img_attn.qkv"],
    ["double_blocks.{i}.txt_attn_qkv", "double_blocks.{i}.txt_attn.qkv"],
    ["double_blocks.{i}.img_attn_proj", "double_blocks.{i}.img_attn.proj"],
    ["double_blocks.{i}.txt_attn_proj", "double_blocks.{i}.txt_attn.proj"],
    ["double_blocks.{i}.img_mlp.fc1", "double_blocks.{i}.img_mlp.0"],
    ["double_blocks.{i}.img_mlp.fc2", "double_blocks.{i}.img_mlp.2"],
    ["double_blocks.{i}.txt_mlp.fc1", "double_blocks.{i}.txt_mlp.0"],
    ["double_blocks.{i}.txt_mlp.fc2", "double_blocks.{i}.txt_mlp.2"],
    ["double_blocks.{i}.img_mod.linear", "double_blocks.{i}.img_mod.lin"],
    ["double_blocks.{i}.txt_mod.linear", "double_blocks.{i}.txt_mod.lin"],
    ["single_blocks.{i}.modulation.linear", "single_blocks.{i}.modulation.lin"],
    [
      "txt_in.individual_token_refiner.blocks.{i}.self_attn_qkv",
      "txt_in.individual_token_refiner.blocks.{i}.self_attn.qkv",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.self_attn_proj",
      "txt_in.individual_token_refiner.blocks.{i}.self_attn.proj",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.mlp.fc1",
      "txt_in.individual_token_refiner.blocks.{i}.mlp.0",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.mlp.fc2",
      "txt_in.individual_token_refiner.blocks.{i}.mlp.2",
    ],
    // Tencent against diffusers
    ["double_blocks.{i}.img_attn_qkv", "transformer_blocks.{i}.attn.to_qkv"],
    ["double_blocks.{i}.txt_attn_qkv", "transformer_blocks.{i}.attn.to_added_qkv"],
    ["double_blocks.{i}.img_attn_proj", "transformer_blocks.{i}.attn.to_out.0"],
    ["double_blocks.{i}.txt_attn_proj", "transformer_blocks.{i}.attn.to_add_out"],
    ["double_blocks.{i}.img_mlp.fc1", "transformer_blocks.{i}.ff.net.0.proj"],
    ["double_blocks.{i}.img_mlp.fc2", "transformer_blocks.{i}.ff.net.2"],
    ["double_blocks.{i}.txt_mlp.fc1", "transformer_blocks.{i}.ff_context.net.0.proj"],
    ["double_blocks.{i}.txt_mlp.fc2", "transformer_blocks.{i}.ff_context.net.2"],
    ["double_blocks.{i}.img_mod.linear", "transformer_blocks.{i}.norm1.linear"],
    ["double_blocks.{i}.txt_mod.linear", "transformer_blocks.{i}.norm1_context.linear"],
    ["single_blocks.{i}.modulation.linear", "single_transformer_blocks.{i}.norm.linear"],
    [
      "txt_in.individual_token_refiner.blocks.{i}.self_attn_proj",
      "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_out.0",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.mlp.fc1",
      "context_embedder.token_refiner.refiner_blocks.{i}.ff.net.0.proj",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.mlp.fc2",
      "context_embedder.token_refiner.refiner_blocks.{i}.ff.net.2",
    ],
    [
      "txt_in.individual_token_refiner.blocks.{i}.adaLN_modulation.1",
      "context_embedder.token_refiner.refiner_blocks.{i}.norm_out.linear",
    ],
    ["txt_in.input_embedder", "context_embedder.proj_in"],
    ["txt_in.t_embedder.mlp.0", "context_embedder.time_text_embed.timestep_embedder.linear_1"],
    ["txt_in.t_embedder.mlp.2", "context_embedder.time_text_embed.timestep_embedder.linear_2"],
    ["txt_in.c_embedder.linear_1", "context_embedder.time_text_embed.text_embedder.linear_1"],
    ["txt_in.c_embedder.linear_2", "context_embedder.time_text_embed.text_embedder.linear_2"],
    ["byt5_in.fc1", "context_embedder_2.linear_1"],
    ["byt5_in.fc2", "context_embedder_2.linear_2"],
    ["byt5_in.fc3", "context_embedder_2.linear_3"],
    ["vision_in.proj.1", "image_embedder.linear_1"],
    ["vision_in.proj.3", "image_embedder.linear_2"],
    ["img_in.proj", "x_embedder.proj"],
    ["time_in.mlp.0", "time_embed.timestep_embedder.linear_1"],
    ["time_in.mlp.2", "time_embed.timestep_embedder.linear_2"],
    ["time_in.mlp.0", "time_text_embed.timestep_embedder.linear_1"],
    ["time_in.mlp.2", "time_text_embed.timestep_embedder.linear_2"],
    ["guidance_in.mlp.0", "time_text_embed.guidance_embedder.linear_1"],
    ["guidance_in.mlp.2", "time_text_embed.guidance_embedder.linear_2"],
  ],
  fused: [
    {
      native: "double_blocks.{i}.img_attn_qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.to_q",
        "transformer_blocks.{i}.attn.to_k",
        "transformer_blocks.{i}.attn.to_v",
      ],
    },
    {
      native: "double_blocks.{i}.txt_attn_qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.add_q_proj",
        "transformer_blocks.{i}.attn.add_k_proj",
        "transformer_blocks.{i}.attn.add_v_proj",
      ],
    },
    {
      native: "double_blocks.{i}.img_attn_qkv",
      layout: "qkv",
      parts: [
        "double_blocks.{i}.img_attn_q",
        "double_blocks.{i}.img_attn_k",
        "double_blocks.{i}.img_attn_v",
      ],
    },
    {
      native: "double_blocks.{i}.txt_attn_qkv",
      layout: "qkv",
      parts: [
        "double_blocks.{i}.txt_attn_q",
        "double_blocks.{i}.txt_attn_k",
        "double_blocks.{i}.txt_attn_v",
      ],
    },
    {
      native: "txt_in.individual_token_refiner.blocks.{i}.self_attn_qkv",
      layout: "qkv",
      parts: [
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_q",
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_k",
        "context_embedder.token_refiner.refiner_blocks.{i}.attn.to_v",
      ],
    },
  ],
  swapped: [],
};

/** Stable Diffusion 3 and 3.5. */
const SD3: NamingTable = {
  id: "sd3",
  models: ["joint_blocks.", "pos_embed.proj."],
  renamed: [
    ["joint_blocks.{i}.x_block.attn.qkv", "transformer_blocks.{i}.attn.to_qkv"],
    ["joint_blocks.{i}.context_block.attn.qkv", "transformer_blocks.{i}.attn.to_added_qkv"],
    ["joint_blocks.{i}.x_block.attn.proj", "transformer_blocks.{i}.attn.to_out.0"],
    ["joint_blocks.{i}.x_block.attn2.proj", "transformer_blocks.{i}.attn2.to_out.0"],
    ["joint_blocks.{i}.x_block.mlp.fc1", "transformer_blocks.{i}.ff.net.0.proj"],
    ["joint_blocks.{i}.x_block.mlp.fc2", "transformer_blocks.{i}.ff.net.2"],
    ["joint_blocks.{i}.x_block.adaLN_modulation.1", "transformer_blocks.{i}.norm1.linear"],
    ["joint_blocks.{i}.context_block.attn.proj", "transformer_blocks.{i}.attn.to_add_out"],
    ["joint_blocks.{i}.context_block.mlp.fc1", "transformer_blocks.{i}.ff_context.net.0.proj"],
    ["joint_blocks.{i}.context_block.mlp.fc2", "transformer_blocks.{i}.ff_context.net.2"],
    ["x_embedder.proj", "pos_embed.proj"],
    ["t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"],
    ["t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"],
    ["y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"],
    ["y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"],
  ],
  fused: [
    {
      native: "joint_blocks.{i}.x_block.attn.qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.to_q",
        "transformer_blocks.{i}.attn.to_k",
        "transformer_blocks.{i}.attn.to_v",
      ],
    },
    {
      native: "joint_blocks.{i}.x_block.attn2.qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn2.to_q",
        "transformer_blocks.{i}.attn2.to_k",
        "transformer_blocks.{i}.attn2.to_v",
      ],
    },
    {
      native: "joint_blocks.{i}.context_block.attn.qkv",
      layout: "qkv",
      parts: [
        "transformer_blocks.{i}.attn.add_q_proj",
        "transformer_blocks.{i}.attn.add_k_proj",
        "transformer_blocks.{i}.attn.add_v_proj",
      ],
    },
  ],
  swapped: [],
  // Six parts in the same order on both sides, but in the last block two, which trade places.
  swappedIfPair: [[
    "joint_blocks.{i}.context_block.adaLN_modulation.1",
    "transformer_blocks.{i}.norm1_context.linear",
  ]],
};

/** Z-Image and Lumina 2. */
const LUMINA: NamingTable = {
  id: "lumina",
  models: ["cap_embedder.", "time_caption_embed."],
  renamed: [
    ["{*}.attention.qkv", "{*}.attention.to_qkv"],
    ["{*}.attention.out", "{*}.attention.to_out.0"],
    ["final_layer.linear", "all_final_layer.2-1.linear"],
    ["final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"],
    ["x_embedder", "all_x_embedder.2-1"],
    // Lumina 2 in diffusers
    ["{*}.attention.out", "{*}.attn.to_out.0"],
    ["{*}.feed_forward.w1", "{*}.feed_forward.linear_1"],
    ["{*}.feed_forward.w2", "{*}.feed_forward.linear_2"],
    ["{*}.feed_forward.w3", "{*}.feed_forward.linear_3"],
    ["layers.{i}.adaLN_modulation.1", "layers.{i}.norm1.linear"],
    ["noise_refiner.{i}.adaLN_modulation.1", "noise_refiner.{i}.norm1.linear"],
    ["t_embedder.mlp.0", "time_caption_embed.timestep_embedder.linear_1"],
    ["t_embedder.mlp.2", "time_caption_embed.timestep_embedder.linear_2"],
    ["cap_embedder.1", "time_caption_embed.caption_embedder.1"],
    ["final_layer.adaLN_modulation.1", "norm_out.linear_1"],
    ["final_layer.linear", "norm_out.linear_2"],
  ],
  fused: [
    {
      native: "{*}.attention.qkv",
      layout: "qkv",
      parts: ["{*}.attention.to_q", "{*}.attention.to_k", "{*}.attention.to_v"],
    },
    {
      native: "{*}.attention.qkv",
      layout: "qkv",
      parts: ["{*}.attn.to_q", "{*}.attn.to_k", "{*}.attn.to_v"],
    },
  ],
  swapped: [],
};

/** Wan 2.1 and 2.2. */
const WAN: NamingTable = {
  id: "wan",
  models: ["text_embedding.", "condition_embedder."],
  renamed: [
    ["blocks.{i}.self_attn.q", "blocks.{i}.attn1.to_q"],
    ["blocks.{i}.self_attn.k", "blocks.{i}.attn1.to_k"],
    ["blocks.{i}.self_attn.v", "blocks.{i}.attn1.to_v"],
    ["blocks.{i}.self_attn.o", "blocks.{i}.attn1.to_out.0"],
    ["blocks.{i}.cross_attn.q", "blocks.{i}.attn2.to_q"],
    ["blocks.{i}.cross_attn.k", "blocks.{i}.attn2.to_k"],
    ["blocks.{i}.cross_attn.v", "blocks.{i}.attn2.to_v"],
    ["blocks.{i}.cross_attn.o", "blocks.{i}.attn2.to_out.0"],
    ["blocks.{i}.cross_attn.k_img", "blocks.{i}.attn2.add_k_proj"],
    ["blocks.{i}.cross_attn.v_img", "blocks.{i}.attn2.add_v_proj"],
    ["blocks.{i}.ffn.0", "blocks.{i}.ffn.net.0.proj"],
    ["blocks.{i}.ffn.2", "blocks.{i}.ffn.net.2"],
    ["text_embedding.0", "condition_embedder.text_embedder.linear_1"],
    ["text_embedding.2", "condition_embedder.text_embedder.linear_2"],
    ["time_embedding.0", "condition_embedder.time_embedder.linear_1"],
    ["time_embedding.2", "condition_embedder.time_embedder.linear_2"],
    ["time_projection.1", "condition_embedder.time_proj"],
    ["img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"],
    ["img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"],
    ["head.head", "proj_out"],
  ],
  fused: [
    {
      native: "blocks.{i}.attn1.to_qkv",
      layout: "qkv",
      parts: ["blocks.{i}.self_attn.q", "blocks.{i}.self_attn.k", "blocks.{i}.self_attn.v"],
    },
  ],
  swapped: [],
};

/** LTX-Video: diffusers renames the ends only. */
const LTX: NamingTable = {
  id: "ltx",
  models: ["patchify_proj.", "adaln_single.", "caption_projection."],
  renamed: [
    ["patchify_proj", "proj_in"],
    ["adaln_single.{*}", "time_embed.{*}"],
  ],
  fused: [],
  swapped: [],
};

/** OpenCLIP's names of CLIP-G (SDXL checkpoints) against those of transformers. */
const OPEN_CLIP: NamingTable = {
  id: "open_clip",
  models: ["transformer.resblocks.", "text_model.encoder."],
  renamed: [
    [
      "transformer.resblocks.{i}.attn.out_proj",
      "text_model.encoder.layers.{i}.self_attn.out_proj",
    ],
    ["transformer.resblocks.{i}.mlp.c_fc", "text_model.encoder.layers.{i}.mlp.fc1"],
    ["transformer.resblocks.{i}.mlp.c_proj", "text_model.encoder.layers.{i}.mlp.fc2"],
  ],
  fused: [
    {
      native: "transformer.resblocks.{i}.attn.in_proj_weight",
      layout: "qkv",
      parts: [
        "text_model.encoder.layers.{i}.self_attn.q_proj",
        "text_model.encoder.layers.{i}.self_attn.k_proj",
        "text_model.encoder.layers.{i}.self_attn.v_proj",
      ],
    },
  ],
  swapped: [],
};

/** Projections that diffusers fuses for training: adapters have one layer, the model has them apart. */
const FUSED_ATTENTION: NamingTable = {
  id: "fused_attention",
  models: [""],
  renamed: [],
  fused: [
    { native: "{*}.to_qkv", layout: "qkv", parts: ["{*}.to_q", "{*}.to_k", "{*}.to_v"] },
    {
      native: "{*}.to_added_qkv",
      layout: "qkv",
      parts: ["{*}.add_q_proj", "{*}.add_k_proj", "{*}.add_v_proj"],
    },
  ],
  swapped: [],
};

/** All naming tables. A row acts only if the model has one of its names. */
export const NAMING_TABLES: readonly NamingTable[] = Object.freeze([
  FLUX,
  HUNYUAN_VIDEO,
  SD3,
  LUMINA,
  WAN,
  LTX,
  KREA2,
  FUSED_ATTENTION,
  OPEN_CLIP,
  unetTable(),
]);
