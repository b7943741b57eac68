/** The names of the U-Nets of Stable Diffusion against those of diffusers, as data. */

import type { NamingTable } from "./naming_table.ts";

/** The layers inside a residual block of the Stable Diffusion U-Nets. */
const RESNET_LAYERS: readonly (readonly [string, string])[] = [
  ["in_layers.0", "norm1"],
  ["in_layers.2", "conv1"],
  ["emb_layers.1", "time_emb_proj"],
  ["out_layers.0", "norm2"],
  ["out_layers.3", "conv2"],
  ["skip_connection", "conv_shortcut"],
];

/** Residual blocks per resolution in every Stable Diffusion U-Net (1.x, 2.x, SDXL). */
const RESNETS_PER_BLOCK = 2;
/** Resolutions at most: four in 1.x and 2.x, three in SDXL. */
const UNET_LEVELS = 4;

/**
 * The U-Nets of Stable Diffusion 1, 2 and XL. The numbering is regular: a resolution takes
 * `RESNETS_PER_BLOCK` input blocks and a downsampler, and one output block more on the way up.
 */
export function unetTable(): NamingTable {
  const renamed: (readonly [string, string])[] = [
    ["input_blocks.0.0", "conv_in"],
    ["out.0", "conv_norm_out"],
    ["out.2", "conv_out"],
    ["time_embed.0", "time_embedding.linear_1"],
    ["time_embed.2", "time_embedding.linear_2"],
    ["label_emb.0.0", "add_embedding.linear_1"],
    ["label_emb.0.2", "add_embedding.linear_2"],
    ["middle_block.1.{*}", "mid_block.attentions.0.{*}"],
  ];
  const resnet = (native: string, alias: string) => {
    for (const [inner, name] of RESNET_LAYERS) {
      renamed.push([`${native}.${inner}`, `${alias}.${name}`]);
    }
  };
  resnet("middle_block.0", "mid_block.resnets.0");
  resnet("middle_block.2", "mid_block.resnets.1");
  const stride = RESNETS_PER_BLOCK + 1;
  for (let level = 0; level < UNET_LEVELS; level++) {
    for (let r = 0; r < RESNETS_PER_BLOCK; r++) {
      const native = `input_blocks.${level * stride + r + 1}`;
      resnet(`${native}.0`, `down_blocks.${level}.resnets.${r}`);
      renamed.push([`${native}.1.{*}`, `down_blocks.${level}.attentions.${r}.{*}`]);
    }
    renamed.push([
      `input_blocks.${(level + 1) * stride}.0.op`,
      `down_blocks.${level}.downsamplers.0.conv`,
    ]);
    for (let r = 0; r < stride; r++) {
      const native = `output_blocks.${level * stride + r}`;
      resnet(`${native}.0`, `up_blocks.${level}.resnets.${r}`);
      renamed.push([`${native}.1.{*}`, `up_blocks.${level}.attentions.${r}.{*}`]);
    }
    // The upsampler follows the attention if there is one.
    for (const place of [1, 2]) {
      renamed.push([
        `output_blocks.${level * stride + stride - 1}.${place}.conv`,
        `up_blocks.${level}.upsamplers.0.conv`,
      ]);
    }
  }
  return { id: "unet", models: ["input_blocks.", "down_blocks."], renamed, fused: [], swapped: [] };
}
