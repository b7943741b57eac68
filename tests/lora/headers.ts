/** Headers of real models and LoRAs, written as rules: block counts, layers, shapes. */

import type { DType } from "../../src/core/dtype.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";

/** A layer and its `[rows, cols]` (or a longer shape). */
export type Layer = readonly [name: string, shape: readonly number[]];

/** Writes `{i}` of every layer as 0 .. count - 1. */
export function blocks(count: number, layers: readonly Layer[]): Layer[] {
  return Array.from(
    { length: count },
    (_, i) => layers.map(([name, shape]): Layer => [name.replaceAll("{i}", `${i}`), shape]),
  ).flat();
}

/** The weights of layers, under a prefix. */
export function weights(layers: readonly Layer[], prefix = ""): TensorInfo[] {
  return layers.map(([name, shape]) => tensor(`${prefix}${name}.weight`, shape));
}

export function tensor(name: string, shape: readonly number[], dtype: DType = "BF16"): TensorInfo {
  return { name, dtype, shape };
}

/** How a LoRA file spells a pair. */
export interface PairStyle {
  /** Made from the layer's name. */
  readonly key: (layer: string) => string;
  readonly down: string;
  readonly up: string;
  readonly alpha?: boolean;
}

export const KOHYA: PairStyle = {
  key: (layer) => `lora_unet_${layer.replaceAll(".", "_")}`,
  down: "lora_down.weight",
  up: "lora_up.weight",
  alpha: true,
};

export function peft(prefix: string, adapter = ""): PairStyle {
  return {
    key: (layer) => prefix + layer,
    down: `lora_A.${adapter}weight`,
    up: `lora_B.${adapter}weight`,
  };
}

/** The pairs of a LoRA on the given layers. */
export function pairs(layers: readonly Layer[], rank: number, style: PairStyle): TensorInfo[] {
  return layers.flatMap(([name, [rows, ...inputs]]) => {
    const key = style.key(name);
    const found = [
      tensor(`${key}.${style.down}`, [rank, ...inputs]),
      tensor(`${key}.${style.up}`, [rows!, rank, ...inputs.slice(1).map(() => 1)]),
    ];
    if (style.alpha === true) found.push(tensor(`${key}.alpha`, []));
    return found;
  });
}

const D = 3072;

/** FLUX.1 dev in Black Forest Labs' names: the layers of its blocks, and those around them. */
export const FLUX_BLOCKS: readonly Layer[] = [
  ...blocks(
    19,
    ["img", "txt"].flatMap((side): Layer[] => [
      [`double_blocks.{i}.${side}_mod.lin`, [6 * D, D]],
      [`double_blocks.{i}.${side}_attn.qkv`, [3 * D, D]],
      [`double_blocks.{i}.${side}_attn.proj`, [D, D]],
      [`double_blocks.{i}.${side}_mlp.0`, [4 * D, D]],
      [`double_blocks.{i}.${side}_mlp.2`, [D, 4 * D]],
    ]),
  ),
  ...blocks(38, [
    ["single_blocks.{i}.linear1", [7 * D, D]],
    ["single_blocks.{i}.linear2", [D, 5 * D]],
    ["single_blocks.{i}.modulation.lin", [3 * D, D]],
  ]),
];

export const FLUX_ENDS: readonly Layer[] = [
  ["img_in", [D, 64]],
  ["txt_in", [D, 4096]],
  ["time_in.in_layer", [D, 256]],
  ["time_in.out_layer", [D, D]],
  ["guidance_in.in_layer", [D, 256]],
  ["guidance_in.out_layer", [D, D]],
  ["vector_in.in_layer", [D, 768]],
  ["vector_in.out_layer", [D, D]],
  ["final_layer.linear", [64, D]],
  ["final_layer.adaLN_modulation.1", [2 * D, D]],
];

/** The same blocks in the names of diffusers. */
export const FLUX_DIFFUSERS_BLOCKS: readonly Layer[] = [
  ...blocks(19, [
    ["transformer_blocks.{i}.norm1.linear", [6 * D, D]],
    ["transformer_blocks.{i}.norm1_context.linear", [6 * D, D]],
    ["transformer_blocks.{i}.attn.to_q", [D, D]],
    ["transformer_blocks.{i}.attn.to_k", [D, D]],
    ["transformer_blocks.{i}.attn.to_v", [D, D]],
    ["transformer_blocks.{i}.attn.add_q_proj", [D, D]],
    ["transformer_blocks.{i}.attn.add_k_proj", [D, D]],
    ["transformer_blocks.{i}.attn.add_v_proj", [D, D]],
    ["transformer_blocks.{i}.attn.to_out.0", [D, D]],
    ["transformer_blocks.{i}.attn.to_add_out", [D, D]],
    ["transformer_blocks.{i}.ff.net.0.proj", [4 * D, D]],
    ["transformer_blocks.{i}.ff.net.2", [D, 4 * D]],
    ["transformer_blocks.{i}.ff_context.net.0.proj", [4 * D, D]],
    ["transformer_blocks.{i}.ff_context.net.2", [D, 4 * D]],
  ]),
  ...blocks(38, [
    ["single_transformer_blocks.{i}.norm.linear", [3 * D, D]],
    ["single_transformer_blocks.{i}.proj_mlp", [4 * D, D]],
    ["single_transformer_blocks.{i}.proj_out", [D, 5 * D]],
    ["single_transformer_blocks.{i}.attn.to_q", [D, D]],
    ["single_transformer_blocks.{i}.attn.to_k", [D, D]],
    ["single_transformer_blocks.{i}.attn.to_v", [D, D]],
  ]),
];

export const FLUX_DIFFUSERS_ENDS: readonly Layer[] = [
  ["x_embedder", [D, 64]],
  ["context_embedder", [D, 4096]],
  ["time_text_embed.timestep_embedder.linear_1", [D, 256]],
  ["time_text_embed.timestep_embedder.linear_2", [D, D]],
  ["time_text_embed.guidance_embedder.linear_1", [D, 256]],
  ["time_text_embed.guidance_embedder.linear_2", [D, D]],
  ["time_text_embed.text_embedder.linear_1", [D, 768]],
  ["time_text_embed.text_embedder.linear_2", [D, D]],
  ["norm_out.linear", [2 * D, D]],
  ["proj_out", [64, D]],
];

/** CLIP-L in the names of transformers. */
export function clip(layers: number, width: number): Layer[] {
  return blocks(layers, [
    ["text_model.encoder.layers.{i}.mlp.fc1", [4 * width, width]],
    ["text_model.encoder.layers.{i}.mlp.fc2", [width, 4 * width]],
    ["text_model.encoder.layers.{i}.self_attn.q_proj", [width, width]],
    ["text_model.encoder.layers.{i}.self_attn.k_proj", [width, width]],
    ["text_model.encoder.layers.{i}.self_attn.v_proj", [width, width]],
    ["text_model.encoder.layers.{i}.self_attn.out_proj", [width, width]],
  ]);
}

/** CLIP-G in OpenCLIP's names; the fused weight is no `*.weight`. */
export function openClip(layers: number, width: number, prefix: string): TensorInfo[] {
  return blocks(layers, [
    ["transformer.resblocks.{i}.attn.in_proj_weight", [3 * width, width]],
    ["transformer.resblocks.{i}.attn.in_proj_bias", [3 * width]],
    ["transformer.resblocks.{i}.attn.out_proj.weight", [width, width]],
    ["transformer.resblocks.{i}.mlp.c_fc.weight", [4 * width, width]],
    ["transformer.resblocks.{i}.mlp.c_proj.weight", [width, 4 * width]],
  ]).map(([name, shape]) => tensor(prefix + name, shape, "F16"));
}

/** Qwen-Image: what LoRAs of it adapt, and what the blocks have besides. */
export const QWEN_ADAPTED: readonly Layer[] = blocks(60, [
  ["transformer_blocks.{i}.attn.to_q", [D, D]],
  ["transformer_blocks.{i}.attn.to_k", [D, D]],
  ["transformer_blocks.{i}.attn.to_v", [D, D]],
  ["transformer_blocks.{i}.attn.to_out.0", [D, D]],
  ["transformer_blocks.{i}.attn.add_q_proj", [D, D]],
  ["transformer_blocks.{i}.attn.add_k_proj", [D, D]],
  ["transformer_blocks.{i}.attn.add_v_proj", [D, D]],
  ["transformer_blocks.{i}.attn.to_add_out", [D, D]],
  ["transformer_blocks.{i}.img_mlp.net.0.proj", [4 * D, D]],
  ["transformer_blocks.{i}.img_mlp.net.2", [D, 4 * D]],
  ["transformer_blocks.{i}.txt_mlp.net.0.proj", [4 * D, D]],
  ["transformer_blocks.{i}.txt_mlp.net.2", [D, 4 * D]],
]);

export const QWEN_MODEL: readonly Layer[] = [
  ...QWEN_ADAPTED,
  ...blocks(60, [
    ["transformer_blocks.{i}.img_mod.1", [6 * D, D]],
    ["transformer_blocks.{i}.txt_mod.1", [6 * D, D]],
  ]),
  ["img_in", [D, 64]],
  ["txt_in", [D, 3584]],
  ["norm_out.linear", [2 * D, D]],
  ["proj_out", [64, D]],
];
