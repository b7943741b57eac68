/**
 * How files in the diffusers layout are distinguished from native ones. Only models whose diffusers names
 * differ from what ComfyUI reads are here: Qwen-Image, Lens, Boogu and ERNIE-Image are native as they
 * come. Native families are tried first.
 */

import type { DetectRule } from "./preset.ts";

/** The diffusers layouts, by what is particular to them. */
export const DIFFUSERS_LAYOUTS: readonly (DetectRule & { readonly title: string })[] = [
  { title: "Flux, Flux.2, Chroma, HunyuanVideo, AuraFlow", all: ["single_transformer_blocks.0"] },
  {
    title: "SD3, HunyuanVideo 1.5",
    all: ["transformer_blocks.0.attn.add_q_proj.weight"],
    not: ["txt_norm"],
  },
  { title: "Mochi", all: ["transformer_blocks.0.attn1.add_q_proj.weight"] },
  { title: "AuraFlow", all: ["joint_transformer_blocks.0"] },
  { title: "Wan", all: ["condition_embedder", "blocks.0.attn1.to_q.weight"] },
  { title: "HunyuanDiT", all: ["blocks.0.attn1.to_q.weight", "pos_embed.proj"] },
  { title: "Z-Image", all: ["layers.0.attention.to_q.weight", "cap_embedder"] },
  {
    title: "Lumina 2",
    all: ["layers.0.attn.to_q.weight", "time_caption_embed"],
    not: ["ref_image_refiner"],
  },
  { title: "Krea 2", all: ["text_fusion.projector.weight"] },
  { title: "PixArt", all: ["adaln_single.emb.timestep_embedder", "pos_embed.proj"] },
  { title: "Sana", all: ["transformer_blocks.0.ff.conv_inverted"] },
  {
    title: "LTX-Video, LTX-2",
    all: ["transformer_blocks.0.attn1.to_q.weight", "proj_in.weight", "time_embed"],
  },
  { title: "CogVideoX", all: ["transformer_blocks.0.norm1.linear.weight", "patch_embed"] },
  { title: "Cosmos, Anima", all: ["transformer_blocks.0.attn1.to_q.weight", "patch_embed.proj"] },
  {
    title: "SD 1.5, SD 2, SDXL (UNet)",
    all: ["down_blocks.0", "up_blocks.0", "conv_in.weight", "time_embedding.linear_1.weight"],
  },
];
