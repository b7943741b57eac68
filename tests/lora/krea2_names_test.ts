import assert from "node:assert/strict";
import { buildKeyMap } from "../../src/lora/key_map.ts";
import { parseLora } from "../../src/lora/parse_lora.ts";
import { resolveLora } from "../../src/lora/resolve_lora.ts";
import { type Layer, pairs, peft, tensor, weights } from "./headers.ts";

const KREA2 = weights([
  ["txtfusion.projector", [1, 12]],
  ["txtfusion.layerwise_blocks.0.attn.wq", [64, 64]],
  ["first", [64, 16]],
  ["last.linear", [16, 64]],
  ["tmlp.0", [64, 32]],
  ["tproj.1", [384, 64]],
  ["txtmlp.3", [64, 64]],
  ["blocks.0.attn.wq", [64, 64]],
  ["blocks.0.attn.wk", [16, 64]],
  ["blocks.0.attn.wv", [16, 64]],
  ["blocks.0.attn.wo", [64, 64]],
  ["blocks.0.attn.gate", [64, 64]],
  ["blocks.0.mlp.down", [64, 256]],
]);

/** The rows that an adapter changes, `weight[first:end]`, in order. */
function placesOf(lora: ReturnType<typeof pairs>, model = KREA2): string[] {
  const parsed = parseLora(lora);
  assert.deepEqual(parsed.problems, []);
  const { targets, unmatched, mismatched } = resolveLora(parsed, model, buildKeyMap(model));
  assert.deepEqual([unmatched, mismatched], [[], []]);
  return targets.map(({ weight, rowStart, rowCount, moduleRowStart }) =>
    `${weight.name} ${rowStart}:${rowStart + rowCount} from ${moduleRowStart}`
  );
}

Deno.test("resolveLora() finds the layers of Krea 2 by diffusers' names", () => {
  const names: readonly [Layer, string][] = [
    [["transformer_blocks.0.attn.to_q", [64, 64]], "blocks.0.attn.wq"],
    [["transformer_blocks.0.attn.to_out.0", [64, 64]], "blocks.0.attn.wo"],
    [["transformer_blocks.0.attn.to_out", [64, 64]], "blocks.0.attn.wo"],
    [["transformer_blocks.0.attn.to_gate", [64, 64]], "blocks.0.attn.gate"],
    [["transformer_blocks.0.ff.down", [64, 256]], "blocks.0.mlp.down"],
    [
      ["text_fusion.layerwise_blocks.0.attn.to_q", [64, 64]],
      "txtfusion.layerwise_blocks.0.attn.wq",
    ],
    [["img_in", [64, 16]], "first"],
    [["time_embed.linear_1", [64, 32]], "tmlp.0"],
    [["time_mod_proj", [384, 64]], "tproj.1"],
    [["txt_in.linear_2", [64, 64]], "txtmlp.3"],
    [["final_layer.linear", [16, 64]], "last.linear"],
  ];
  for (const [layer, own] of names) {
    for (const prefix of ["transformer.", "diffusion_model.", ""]) {
      const places = placesOf(pairs([layer], 4, peft(prefix)));
      assert.deepEqual(places, [`${own}.weight 0:${layer[1][0]} from 0`]);
    }
  }
});

/** A LoKr of `[rows, cols]`, one factor of `[2, 2]`. */
const lokr = (key: string, rows: number, cols: number) => [
  tensor(`${key}.lokr_w1`, [2, 2]),
  tensor(`${key}.lokr_w2`, [rows / 2, cols / 2]),
];

Deno.test("resolveLora() shares a LoKr of fused projections out to q, k and v", () => {
  for (
    const key of ["lycoris_transformer_blocks_0_attn_to_qkv", "transformer_blocks.0.attn.to_qkv"]
  ) {
    assert.deepEqual(placesOf(lokr(key, 96, 64)), [
      "blocks.0.attn.wq.weight 0:64 from 0",
      "blocks.0.attn.wk.weight 0:16 from 64",
      "blocks.0.attn.wv.weight 0:16 from 80",
    ], key);
  }
});

Deno.test("resolveLora() takes fused projections for any model, apart or fused itself", () => {
  const apart = weights(
    ["to_q", "to_k", "to_v"].map((name): Layer => [`transformer_blocks.3.attn.${name}`, [64, 64]]),
  );
  assert.deepEqual(
    placesOf(lokr("transformer.transformer_blocks.3.attn.to_qkv", 192, 64), apart),
    ["q", "k", "v"].map((x, i) => `transformer_blocks.3.attn.to_${x}.weight 0:64 from ${64 * i}`),
  );
  const added = weights(
    ["q", "k", "v"].map((x): Layer => [`transformer_blocks.3.attn.add_${x}_proj`, [64, 64]]),
  );
  assert.equal(placesOf(lokr("transformer_blocks.3.attn.to_added_qkv", 192, 64), added).length, 3);
  const flux = weights([["double_blocks.3.img_attn.qkv", [192, 64]], ["img_in", [64, 16]]]);
  assert.deepEqual(placesOf(lokr("transformer_blocks.3.attn.to_qkv", 192, 64), flux), [
    "double_blocks.3.img_attn.qkv.weight 0:192 from 0",
  ]);
});
