import assert from "node:assert/strict";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { buildKeyMap } from "../../src/lora/key_map.ts";
import { parseLora } from "../../src/lora/parse_lora.ts";
import { type LoraResolution, type LoraTarget, resolveLora } from "../../src/lora/resolve_lora.ts";
import {
  blocks,
  clip,
  FLUX_BLOCKS,
  FLUX_DIFFUSERS_BLOCKS,
  FLUX_DIFFUSERS_ENDS,
  FLUX_ENDS,
  KOHYA,
  type Layer,
  openClip,
  pairs,
  type PairStyle,
  peft,
  QWEN_ADAPTED,
  QWEN_MODEL,
  tensor,
  weights,
} from "./headers.ts";

const FLUX = weights([...FLUX_BLOCKS, ...FLUX_ENDS]);
const DIFFUSERS = peft("transformer.");

function resolve(lora: readonly TensorInfo[], model: readonly TensorInfo[]): LoraResolution {
  const parsed = parseLora(lora);
  assert.deepEqual(parsed.problems, []);
  return resolveLora(parsed, model, buildKeyMap(model));
}

/** Asserts that every module has its targets and nothing is left over; returns the targets. */
function complete(
  lora: readonly TensorInfo[],
  model: readonly TensorInfo[],
): readonly LoraTarget[] {
  const resolution = resolve(lora, model);
  assert.deepEqual(resolution.unmatched, []);
  assert.deepEqual(resolution.mismatched, []);
  assert.equal(resolution.resolved, parseLora(lora).modules.length);
  return resolution.targets;
}

/** `weight[rows]` of the only target of a one-layer LoRA, `<>` if halves trade places. */
function placeOf(layer: Layer, style: PairStyle, model: readonly TensorInfo[]): string {
  const targets = complete(pairs([layer], 4, style), model);
  return targets.map((t) =>
    `${t.weight.name}[${t.rowStart}:${t.rowStart + t.rowCount}]${t.swapHalves ? "<>" : ""}`
  ).join(" ");
}

Deno.test("resolveLora() resolves all 304 modules of a kohya LoRA of Flux.1", () => {
  const targets = complete(pairs(FLUX_BLOCKS, 16, KOHYA), FLUX);
  assert.equal(targets.length, 304);
  assert.ok(targets.every((t) => t.rowStart === 0 && t.rowCount === t.weight.shape[0]));
  assert.equal(new Set(targets.map((t) => t.weight.name)).size, 304);
});

Deno.test("resolveLora() lists the text encoder's part as not in this model", () => {
  const te: PairStyle = { ...KOHYA, key: (layer) => `lora_te1_${layer.replaceAll(".", "_")}` };
  const lora = [...pairs(FLUX_BLOCKS, 4, KOHYA), ...pairs(clip(12, 768), 4, te)];
  const { resolved, unmatched, mismatched } = resolve(lora, FLUX);
  assert.equal(resolved, 304);
  assert.equal(unmatched.length, 72);
  assert.deepEqual(unmatched[0], {
    key: "lora_te1_text_model_encoder_layers_0_mlp_fc1",
    scope: { component: "text", slot: 1 },
    reason: "the model has no such layer",
  });
  assert.deepEqual(mismatched, []);
});

Deno.test("resolveLora() covers each fused weight of Flux.1 by the 494 pairs of diffusers", () => {
  const targets = complete(pairs(FLUX_DIFFUSERS_BLOCKS, 32, DIFFUSERS), FLUX);
  assert.equal(targets.length, 494);
  const rows = new Map<string, LoraTarget[]>();
  for (const target of targets) {
    rows.set(target.weight.name, [...rows.get(target.weight.name) ?? [], target]);
  }
  assert.equal(rows.size, 304);
  for (const [name, list] of rows) {
    list.sort((a, b) => a.rowStart - b.rowStart);
    let end = 0;
    for (const target of list) {
      assert.equal(target.rowStart, end, name);
      end += target.rowCount;
    }
    assert.equal(end, list[0]!.weight.shape[0], name);
  }
});

Deno.test("resolveLora() puts Flux.1's layers of diffusers into their places", () => {
  const place = (name: string, shape: number[]) => placeOf([name, shape], DIFFUSERS, FLUX);
  const D = 3072;
  assert.equal(
    place("transformer_blocks.3.attn.to_k", [D, D]),
    "double_blocks.3.img_attn.qkv.weight[3072:6144]",
  );
  assert.equal(
    place("transformer_blocks.18.attn.add_v_proj", [D, D]),
    "double_blocks.18.txt_attn.qkv.weight[6144:9216]",
  );
  assert.equal(
    place("single_transformer_blocks.37.proj_mlp", [4 * D, D]),
    "single_blocks.37.linear1.weight[9216:21504]",
  );
  assert.equal(
    place("single_transformer_blocks.0.attn.to_v", [D, D]),
    "single_blocks.0.linear1.weight[6144:9216]",
  );
  assert.equal(
    place("norm_out.linear", [2 * D, D]),
    "final_layer.adaLN_modulation.1.weight[0:6144]<>",
  );
  assert.equal(
    place("time_text_embed.text_embedder.linear_1", [D, 768]),
    "vector_in.in_layer.weight[0:3072]",
  );
});

Deno.test("resolveLora() reads the flattened names of diffusers too", () => {
  const style: PairStyle = {
    ...KOHYA,
    key: (layer) => `lora_transformer_${layer.replaceAll(".", "_")}`,
  };
  const all = [...FLUX_DIFFUSERS_BLOCKS, ...FLUX_DIFFUSERS_ENDS];
  assert.equal(complete(pairs(all, 8, style), FLUX).length, 504);
});

Deno.test("resolveLora() splits a fused LoRA over a model that stores the parts apart", () => {
  const model = weights([...FLUX_DIFFUSERS_BLOCKS, ...FLUX_DIFFUSERS_ENDS]);
  const targets = complete(pairs([...FLUX_BLOCKS, ...FLUX_ENDS], 16, KOHYA), model);
  assert.equal(targets.length, 494 + 10);
  const parts = targets.filter((t) => t.module.key === "lora_unet_single_blocks_5_linear1");
  assert.deepEqual(
    parts.map((t) => [t.weight.name, t.rowStart, t.moduleRowStart, t.rowCount]),
    [
      ["single_transformer_blocks.5.attn.to_q.weight", 0, 0, 3072],
      ["single_transformer_blocks.5.attn.to_k.weight", 0, 3072, 3072],
      ["single_transformer_blocks.5.attn.to_v.weight", 0, 6144, 3072],
      ["single_transformer_blocks.5.proj_mlp.weight", 0, 9216, 12288],
    ],
  );
  assert.equal(
    targets.filter((t) => t.swapHalves).map((t) => t.weight.name).join(),
    "norm_out.linear.weight",
  );
});

Deno.test("resolveLora() resolves all 720 modules of Qwen-Image in each spelling", () => {
  const model = weights(QWEN_MODEL);
  const styles: PairStyle[] = [
    peft("", "default."),
    peft("diffusion_model."),
    peft("base_model.model."),
    peft("base_model.model.diffusion_model."),
    peft("model.diffusion_model."),
    { key: (layer) => layer, down: "lora_down.weight", up: "lora_up.weight", alpha: true },
    { key: (layer) => layer, down: "lora.down.weight", up: "lora.up.weight" },
    { key: (layer) => `transformer.${layer}`, down: "lora_A", up: "lora_B" },
    KOHYA,
  ];
  for (const style of styles) {
    const targets = complete(pairs(QWEN_ADAPTED, 16, style), model);
    assert.equal(targets.length, 720, style.key("x"));
    assert.equal(new Set(targets.map((t) => t.weight.name)).size, 720);
  }
});

Deno.test("resolveLora() finds the layers of a model under an all-in-one file's prefix", () => {
  const model = [
    ...weights(QWEN_MODEL, "model.diffusion_model."),
    tensor("first_stage_model.decoder.conv_in.weight", [8, 4, 3, 3]),
  ];
  for (const style of [KOHYA, peft("transformer."), peft("")]) {
    assert.equal(complete(pairs(QWEN_ADAPTED, 16, style), model).length, 720);
  }
});

Deno.test("resolveLora() places Z-Image's attention, also with fewer key heads (Lumina 2)", () => {
  const zimage = weights([
    ["layers.0.attention.qkv", [11520, 3840]],
    ["layers.0.attention.out", [3840, 3840]],
    ["context_refiner.1.attention.qkv", [11520, 3840]],
    ["cap_embedder.1", [3840, 2560]],
    ["x_embedder", [3840, 64]],
  ]);
  const at = (name: string, shape: number[]) =>
    placeOf([name, shape], peft("diffusion_model."), zimage);
  assert.equal(
    at("layers.0.attention.to_v", [3840, 3840]),
    "layers.0.attention.qkv.weight[7680:11520]",
  );
  assert.equal(
    at("context_refiner.1.attention.to_q", [3840, 3840]),
    "context_refiner.1.attention.qkv.weight[0:3840]",
  );
  assert.equal(
    at("layers.0.attention.to_out.0", [3840, 3840]),
    "layers.0.attention.out.weight[0:3840]",
  );
  assert.equal(at("all_x_embedder.2-1", [3840, 64]), "x_embedder.weight[0:3840]");

  const lumina = weights([["layers.0.attention.qkv", [3840, 2304]], ["cap_embedder.1", [
    2304,
    2304,
  ]]]);
  assert.equal(
    placeOf(["layers.0.attn.to_k", [768, 2304]], DIFFUSERS, lumina),
    "layers.0.attention.qkv.weight[2304:3072]",
  );
});

Deno.test("resolveLora() swaps the halves of SD3's last context modulation only", () => {
  const model = weights([
    ["joint_blocks.0.context_block.adaLN_modulation.1", [6 * 64, 64]],
    ["joint_blocks.1.context_block.adaLN_modulation.1", [2 * 64, 64]],
    ["joint_blocks.0.x_block.attn2.qkv", [3 * 64, 64]],
    ["final_layer.linear", [64, 64]],
  ], "model.diffusion_model.");
  const at = (name: string, shape: number[]) => placeOf([name, shape], DIFFUSERS, model);
  assert.equal(
    at("transformer_blocks.0.norm1_context.linear", [384, 64]),
    "model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.weight[0:384]",
  );
  assert.equal(
    at("transformer_blocks.1.norm1_context.linear", [128, 64]),
    "model.diffusion_model.joint_blocks.1.context_block.adaLN_modulation.1.weight[0:128]<>",
  );
  assert.equal(
    at("transformer_blocks.0.attn2.to_k", [64, 64]),
    "model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight[64:128]",
  );
});

Deno.test("resolveLora() reads SDXL's U-Net in both of kohya's numberings", () => {
  const model = weights([
    ["input_blocks.4.1.transformer_blocks.1.attn2.to_k", [640, 2048]],
    ["input_blocks.4.1.proj_in", [640, 640]],
    ["input_blocks.3.0.op", [320, 320, 3, 3]],
    ["middle_block.1.transformer_blocks.9.ff.net.0.proj", [10240, 1280]],
    ["output_blocks.5.0.in_layers.2", [640, 1280, 3, 3]],
    ["output_blocks.2.2.conv", [1280, 1280, 3, 3]],
    ["output_blocks.0.1.transformer_blocks.0.attn1.to_out.0", [1280, 1280]],
  ], "model.diffusion_model.");
  const both: [string, string, number[]][] = [
    [
      "input_blocks.4.1.transformer_blocks.1.attn2.to_k",
      "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
      [640, 2048],
    ],
    ["input_blocks.4.1.proj_in", "down_blocks.1.attentions.0.proj_in", [640, 640]],
    ["input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv", [320, 320, 3, 3]],
    [
      "middle_block.1.transformer_blocks.9.ff.net.0.proj",
      "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
      [10240, 1280],
    ],
    ["output_blocks.5.0.in_layers.2", "up_blocks.1.resnets.2.conv1", [640, 1280, 3, 3]],
    ["output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv", [1280, 1280, 3, 3]],
    [
      "output_blocks.0.1.transformer_blocks.0.attn1.to_out.0",
      "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
      [1280, 1280],
    ],
  ];
  const legacy: PairStyle = {
    key: (layer) =>
      `unet.${
        layer.replace(/\.to_out\.0$/, ".processor.to_out").replace(/\.(to_[qkv])$/, ".processor.$1")
      }`,
    down: "lora.down.weight",
    up: "lora.up.weight",
  };
  for (const [native, alias, shape] of both) {
    const want = `model.diffusion_model.${native}.weight[0:${shape[0]}]`;
    for (const style of [KOHYA, peft("unet."), legacy]) {
      assert.equal(placeOf([native, shape], style, model), want);
      assert.equal(placeOf([alias, shape], style, model), want);
    }
  }
});

Deno.test("resolveLora() distinguishes SDXL's two text encoders", () => {
  const model = [
    ...weights(clip(12, 768), "conditioner.embedders.0.transformer."),
    ...openClip(32, 1280, "conditioner.embedders.1.model."),
  ];
  const te = (n: number): PairStyle => ({
    ...KOHYA,
    key: (layer) => `lora_te${n}_${layer.replaceAll(".", "_")}`,
  });
  const lora = [...pairs(clip(12, 768), 8, te(1)), ...pairs(clip(32, 1280), 8, te(2))];
  const targets = complete(lora, model);
  assert.equal(targets.length, 12 * 6 + 32 * 6);
  const k = targets.find((t) =>
    t.module.key === "lora_te2_text_model_encoder_layers_31_self_attn_k_proj"
  )!;
  assert.equal(
    k.weight.name,
    "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight",
  );
  assert.deepEqual([k.rowStart, k.rowCount], [1280, 1280]);
  assert.ok(
    targets.filter((t) => t.module.key.startsWith("lora_te1_"))
      .every((t) => t.weight.name.startsWith("conditioner.embedders.0.")),
  );
});

Deno.test("resolveLora() gives a text encoder alone its own part of a LoRA", () => {
  const te = (n: number): PairStyle => ({
    ...KOHYA,
    key: (layer) => `lora_te${n}_${layer.replaceAll(".", "_")}`,
  });
  const lora = [...pairs(clip(12, 768), 8, te(1)), ...pairs(clip(32, 1280), 8, te(2))];
  const { resolved, unmatched, mismatched } = resolve(lora, weights(clip(12, 768)));
  assert.equal(resolved, 72);
  assert.deepEqual(mismatched, []);
  assert.equal(unmatched.length, 32 * 6);
  assert.equal(unmatched.at(-1)!.reason, "belongs to another text encoder");
});

Deno.test("resolveLora() reads T5 and Wan, HunyuanVideo and LTX in their usual spellings", () => {
  const t5 = weights(blocks(2, [
    ["encoder.block.{i}.layer.0.SelfAttention.q", [64, 64]],
    ["encoder.block.{i}.layer.1.DenseReluDense.wi_0", [160, 64]],
  ]));
  const te3: PairStyle = { ...KOHYA, key: (layer) => `lora_te3_${layer.replaceAll(".", "_")}` };
  assert.equal(
    placeOf(["encoder.block.1.layer.0.SelfAttention.q", [64, 64]], te3, t5),
    "encoder.block.1.layer.0.SelfAttention.q.weight[0:64]",
  );

  const wan = weights([
    ["blocks.0.self_attn.q", [64, 64]],
    ["blocks.0.cross_attn.k_img", [64, 64]],
    ["blocks.0.ffn.0", [160, 64]],
    ["text_embedding.0", [64, 96]],
    ["head.head", [16, 64]],
  ]);
  const wanFun: PairStyle = {
    ...KOHYA,
    key: (layer) => `lora_unet__${layer.replaceAll(".", "_")}`,
  };
  for (const style of [KOHYA, wanFun, peft("diffusion_model.")]) {
    assert.equal(
      placeOf(["blocks.0.self_attn.q", [64, 64]], style, wan),
      "blocks.0.self_attn.q.weight[0:64]",
    );
  }
  assert.equal(
    placeOf(["blocks.0.attn2.add_k_proj", [64, 64]], DIFFUSERS, wan),
    "blocks.0.cross_attn.k_img.weight[0:64]",
  );

  const tencent = weights([
    ["double_blocks.0.img_attn_qkv", [192, 64]],
    ["double_blocks.0.img_mlp.fc1", [256, 64]],
    ["txt_in.individual_token_refiner.blocks.0.self_attn_qkv", [192, 64]],
  ]);
  const split = weights([
    ["double_blocks.0.img_attn_q", [64, 64]],
    ["double_blocks.0.img_attn_k", [64, 64]],
    ["double_blocks.0.img_attn_v", [64, 64]],
    ["txt_in.individual_token_refiner.blocks.0.self_attn_qkv", [192, 64]],
  ]);
  assert.equal(
    placeOf(["double_blocks.0.img_attn.qkv", [192, 64]], peft("diffusion_model."), tencent),
    "double_blocks.0.img_attn_qkv.weight[0:192]",
  );
  assert.equal(
    placeOf(["double_blocks.0.img_mlp.0", [256, 64]], KOHYA, tencent),
    "double_blocks.0.img_mlp.fc1.weight[0:256]",
  );
  assert.equal(
    placeOf(["transformer_blocks.0.attn.to_k", [64, 64]], DIFFUSERS, tencent),
    "double_blocks.0.img_attn_qkv.weight[64:128]",
  );
  assert.equal(
    placeOf(["transformer_blocks.0.attn.to_k", [64, 64]], DIFFUSERS, split),
    "double_blocks.0.img_attn_k.weight[0:64]",
  );
  assert.equal(
    placeOf(["double_blocks.0.img_attn.qkv", [192, 64]], KOHYA, split),
    "double_blocks.0.img_attn_q.weight[0:64] double_blocks.0.img_attn_k.weight[0:64] " +
      "double_blocks.0.img_attn_v.weight[0:64]",
  );

  const ltx = weights([
    ["patchify_proj", [64, 32]],
    ["transformer_blocks.0.attn1.to_out.0", [64, 64]],
    ["adaln_single.emb.timestep_embedder.linear_1", [64, 16]],
  ], "model.diffusion_model.");
  assert.equal(
    placeOf(["transformer_blocks.0.attn1.to_out.0", [64, 64]], peft("diffusion_model."), ltx),
    "model.diffusion_model.transformer_blocks.0.attn1.to_out.0.weight[0:64]",
  );
  assert.equal(
    placeOf(["time_embed.emb.timestep_embedder.linear_1", [64, 16]], DIFFUSERS, ltx),
    "model.diffusion_model.adaln_single.emb.timestep_embedder.linear_1.weight[0:64]",
  );
});

Deno.test("resolveLora() lists a layer of another shape with both shapes", () => {
  const lora = pairs([["double_blocks.0.img_attn.proj", [3072, 2048]]], 4, KOHYA);
  const { targets, unmatched, mismatched } = resolve(lora, FLUX);
  assert.deepEqual([targets.length, unmatched.length], [0, 0]);
  assert.deepEqual(mismatched, [{
    key: "lora_unet_double_blocks_0_img_attn_proj",
    weightName: "double_blocks.0.img_attn.proj.weight",
    shape: [3072, 2048],
    wanted: [3072, 3072],
  }]);
});

Deno.test("resolveLora() does not merge two spellings of one layer twice", () => {
  const lora = [
    ...pairs([["double_blocks.0.img_attn.qkv", [9216, 3072]]], 4, KOHYA),
    ...pairs([["transformer_blocks.0.attn.to_q", [3072, 3072]]], 4, DIFFUSERS),
  ];
  const { targets, unmatched } = resolve(lora, FLUX);
  assert.equal(targets.length, 1);
  assert.match(unmatched[0]!.reason, /already changes the same rows/);
});

Deno.test("resolveLora() refuses to guess between names that flatten alike", () => {
  const model = weights([["a_b.c", [8, 8]], ["a.b_c", [8, 8]]]);
  const { targets, unmatched } = resolve(pairs([["a.b.c", [8, 8]]], 2, KOHYA), model);
  assert.equal(targets.length, 0);
  assert.equal(unmatched[0]!.reason, 'it may mean "a_b.c.weight" or "a.b_c.weight"');
});

Deno.test("resolveLora() sends biases to the bias of the layer, cut like its weight", () => {
  const model = [
    ...weights([["double_blocks.0.img_attn.qkv", [9216, 3072]]]),
    tensor("double_blocks.0.img_attn.qkv.bias", [9216]),
  ];
  const lora = [
    ...pairs([["transformer_blocks.0.attn.to_k", [3072, 3072]]], 4, DIFFUSERS),
    tensor("transformer.transformer_blocks.0.attn.to_k.lora_B.bias", [3072]),
    tensor("diffusion_model.double_blocks.0.img_attn.qkv.diff_b", [9216]),
  ];
  const { targets, unmatched } = resolve(lora, model);
  assert.deepEqual(
    targets.map((t) => [t.part, t.weight.name, t.cols, t.rowStart, t.rowCount]),
    [
      ["weight", "double_blocks.0.img_attn.qkv.weight", 3072, 3072, 3072],
      ["upBias", "double_blocks.0.img_attn.qkv.bias", 1, 3072, 3072],
    ],
  );
  assert.match(unmatched[0]!.reason, /already changes the same rows/);

  const noBias = resolve(lora.slice(0, 3), model.slice(0, 1));
  assert.equal(noBias.targets.length, 1);
  assert.match(noBias.unmatched[0]!.reason, /a bias that the layer does not have/);
});

Deno.test("resolveLora() sends changes of expert banks to the rows of all experts, or of one", () => {
  const model = weights([["layers.0.mlp.experts.down_proj", [8, 96, 64]]]);
  const place = (name: string, rows: number) => placeOf([name, [rows, 64]], DIFFUSERS, model);
  const bank = "layers.0.mlp.experts.down_proj.weight";
  assert.equal(place("layers.0.mlp.experts.down_proj", 8 * 96), `${bank}[0:768]`);
  assert.equal(place("layers.0.mlp.experts.down_proj.3", 96), `${bank}[288:384]`);
  assert.equal(place("layers.0.mlp.experts.3.down_proj", 96), `${bank}[288:384]`);
  const parameters = pairs([["layers.0.mlp.experts.base_layer", [96, 64]]], 16, DIFFUSERS);
  assert.match(resolve(parameters, model).unmatched[0]!.reason, /target_parameters of PEFT/);
  // A kernel of one dimension is no bank.
  const kernel = weights([["conv", [96, 64, 3]]]);
  assert.equal(placeOf(["conv", [96, 192]], DIFFUSERS, kernel), "conv.weight[0:96]");
});
