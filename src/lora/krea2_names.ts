/** The names of Krea 2 against those of diffusers, as data. */

import type { FusedRow, NamingTable } from "./naming_table.ts";

/** The two kinds of blocks that have the same layers, and the text fusion's two stacks. */
const BLOCKS: readonly (readonly [string, string])[] = [
  ["blocks.{i}", "transformer_blocks.{i}"],
  ["txtfusion.layerwise_blocks.{i}", "text_fusion.layerwise_blocks.{i}"],
  ["txtfusion.refiner_blocks.{i}", "text_fusion.refiner_blocks.{i}"],
];

const LAYERS: readonly (readonly [string, string])[] = [
  ["attn.wq", "attn.to_q"],
  ["attn.wk", "attn.to_k"],
  ["attn.wv", "attn.to_v"],
  ["attn.gate", "attn.to_gate"],
  ["attn.wo", "attn.to_out.0"],
  ["mlp.gate", "ff.gate"],
  ["mlp.up", "ff.up"],
  ["mlp.down", "ff.down"],
];

/** Krea 2. */
export const KREA2: NamingTable = {
  id: "krea2",
  models: ["txtfusion.", "text_fusion."],
  renamed: [
    ...BLOCKS.flatMap(([native, alias]) =>
      LAYERS.map(([layer, name]) => [`${native}.${layer}`, `${alias}.${name}`] as const)
    ),
    ["first", "img_in"],
    ["tmlp.0", "time_embed.linear_1"],
    ["tmlp.2", "time_embed.linear_2"],
    ["tproj.1", "time_mod_proj"],
    ["txtmlp.1", "txt_in.linear_1"],
    ["txtmlp.3", "txt_in.linear_2"],
    ["txtfusion.projector", "text_fusion.projector"],
    ["last.linear", "final_layer.linear"],
  ],
  // adapters that were trained on fused projections
  fused: BLOCKS.flatMap(([native, alias]): FusedRow[] => [
    {
      native: `${alias}.attn.to_qkv`,
      layout: "qkv",
      parts: [`${native}.attn.wq`, `${native}.attn.wk`, `${native}.attn.wv`],
    },
  ]),
  swapped: [],
};
