/**
 * The things that stock ComfyUI cannot use quantized, as one list: modules that read their weight
 * themselves, parts
 * of a model and whole files without a quantized path, and models in several files. A conversion keeps
 * or warns by it before the work, `verify` judges by it afterwards.
 */

import { layerName } from "../core/layer_name.ts";
import type { TensorInfo, Tensors } from "../core/tensor.ts";
import type { Detection } from "./preset.ts";

/** One thing that does not work, and why. */
export interface Unusable {
  /** Stable id, in kebab case. */
  readonly rule: string;
  /** The thing that does not work, as a clause. */
  readonly what: string;
  /** The reaction of stock ComfyUI. */
  readonly effect: string;
  /** Advice. */
  readonly hint?: string;
}

const GARBAGE = "loads the raw codes as if they were weights: garbage";

/** Modules whose 2-D weight a model reads itself, not through a linear layer. */
const RAW_MODULES: readonly (Unusable & {
  /** Matches the layer's name. */
  readonly names: RegExp;
  /** Other layers have the name, too: it counts only for few rows beside the columns. */
  readonly ifNarrow?: boolean;
})[] = [
  {
    rule: "router-quantized",
    what: "the router or gate of a mixture of experts is a bare parameter",
    effect: GARBAGE,
    names:
      /(^|\.)(router(\.(proj|classifier|layer|gate))?|shared_expert_gate|gate\.wg|ff_i\.gate)$/,
  },
  {
    rule: "router-quantized",
    what: "the gate of a mixture of experts is a bare parameter",
    effect: GARBAGE,
    // the gate of a SwiGLU is called mlp.gate at times (Krea 2)
    names: /(^|\.)((mlp|moe|feed_forward|ffn|block_sparse_moe)\.(image_)?gate(\.proj)?)$/,
    ifNarrow: true,
  },
  {
    rule: "read-raw",
    what: "the model reads this tensor itself, not through a linear layer",
    effect: GARBAGE,
    names:
      /(^|\.)(relative_attention_bias|position_embedding|pos_embed\w*|text_projection|scale_shift_table|adaln_t_table)(\.|$)/,
  },
];

/** As many experts as a router has at most; a projection has more rows. */
const MOST_EXPERTS = 1024;

/** Parts of a model without a quantized path, by the names of their layers. */
const PARTS: readonly (Unusable & { readonly names: RegExp })[] = [
  {
    rule: "clip-quantized",
    what: "CLIP-L and CLIP-G text encoders have no quantized path",
    effect: "loads the raw codes: noise",
    names: /(^|[._])text_model\.encoder\.layers\.|(^|\.)clip_[lg]\.|transformer\.resblocks\./,
  },
  {
    rule: "vae-quantized",
    what: "VAEs have no quantized path",
    effect: "loads the raw codes: black images or a crash",
    // the blocks of MiniMax H3's decoder are the exception
    names: /(^|\.)(first_stage_model|vae)\.(?!decoder\.transformer_blocks\.)/,
  },
];

/** Keys of ControlNets, which copy the input half of a model and would pass for it. */
export const CONTROLNET_KEYS: readonly string[] = [
  "controlnet_blocks",
  "controlnet_x_embedder",
  "controlnet_cond_embedding",
  "controlnet_down_blocks",
  "controlnet_mid_block",
  "controlnet_single_blocks",
  "controlnet_mode_embedder",
  "controlnet_patch_embedding", // Uni3C
  "control_layers", // Z-Image
  "control_all_x_embedder",
  "control_noise_refiner",
  "control_blocks", // HunyuanDiT, Qwen-Image
  "control_img_in",
  "input_hint_block",
  "zero_convs",
  "control_model",
  "pos_embed_input",
  "lora_controlnet",
  "lllite_conditioning1",
];

/** Names of which one alone shows a file to be an image encoder: CLIP vision, SigLIP, DINO. */
const VISION_FILES =
  /^(visual\.transformer\.resblocks\.0\.|(vision_model|vision_tower)\.(vision_model\.)?encoder\.layers\.0\.|vision_model\.embeddings\.patch_embedding\.|encoder\.layer\.0\.layer_scale|visual_projection\.)/;

/** Names of which one alone shows a file to be a VAE, in the spellings of CompVis, diffusers and Wan. */
const VAE_FILES = /^(decoder\.(conv_in|conv1|up\.0|up_blocks\.0|mid)\b|(post_)?quant_conv\.)/;

/** Returns why the weight `tensor` is useless quantized: its model reads it raw; null: it is not. */
export function rawModule({ name, shape }: TensorInfo): Unusable | null {
  const layer = layerName(name);
  const [rows = 0, cols = 0] = shape;
  const isNarrow = rows <= MOST_EXPERTS && 2 * rows <= cols;
  return RAW_MODULES.find(({ names, ifNarrow }) =>
    names.test(layer) && (ifNarrow !== true || isNarrow)
  ) ?? null;
}

/** Returns why a part of a model, by the name of one of its weights, is useless quantized; null: it is not. */
export function unusablePart(name: string): Unusable | null {
  return PARTS.find(({ names }) => names.test(name)) ?? null;
}

/** Returns why no quantized file of this kind works; null if nothing speaks against it. */
export function unusableFile(
  tensors: Tensors,
  { family, layout, evidence }: Detection,
): Unusable | null {
  const seen = evidence[0] ?? "";
  const because = (unusable: Unusable, name: string): Unusable => ({
    ...unusable,
    what: `${unusable.what}; recognised by ${name}`,
  });
  if (family === "te_clip_l_g") return because(PARTS[0]!, seen);
  if (layout === "lora") {
    return because({
      rule: "lora-quantized",
      what: "LoRA tensors are read as they are",
      effect: "applies the raw codes as if they were weights: garbage",
    }, seen);
  }
  if (layout === "diffusers") {
    return because({
      rule: "diffusers-quantized",
      what: "quantized layers need the names of the single-file checkpoint",
      effect: "renames the weights but not their scales and markers: does not load",
    }, seen);
  }
  if (family !== null) return null;
  if (evidence.length > 0) { // of unknown models, only ControlNets have evidence
    return because({
      rule: "controlnet-quantized",
      what: "ControlNets have no quantized path",
      effect: "loads the raw codes: noise or a crash",
    }, seen);
  }
  const vision = tensors.find(({ name }) => VISION_FILES.test(name));
  if (vision !== undefined) {
    return because({
      rule: "vision-quantized",
      what: "CLIP vision, SigLIP and DINO image encoders have no quantized path",
      effect: "loads the raw codes: noise",
    }, vision.name);
  }
  const vae = tensors.find(({ name }) => VAE_FILES.test(name));
  return vae === undefined ? null : because(PARTS[1]!, vae.name);
}

/** Names of shards: `model-00001-of-00003.safetensors`, with or without a variant before the number. */
const SHARD_NAME = /-0*(\d+)-of-0*(\d+)\.safetensors$/;

/**
 * Returns why a model in these files cannot be handed to stock ComfyUI as it is: an index with its shards,
 * or one shard of several. Null for a single file.
 *
 * @param fileNames names or paths of all its files.
 */
export function unusableFiles(fileNames: readonly string[]): Unusable | null {
  if (fileNames.length > 1) {
    return {
      rule: "sharded",
      what: `the model lies in ${fileNames.length} shards`,
      effect: "its loaders take one file, neither an index nor a folder",
      hint: "convert without --shard-size to get one file",
    };
  }
  const [, number, count] = SHARD_NAME.exec(fileNames[0] ?? "") ?? [];
  if (number === undefined || Number(count) <= 1) return null;
  return {
    rule: "lone-shard",
    what: `this is shard ${number} of ${count} alone: the tensors of the other ${
      Number(count) - 1
    } are not in it`,
    effect: "loads part of a model",
    hint: "name the folder or its index instead",
  };
}
