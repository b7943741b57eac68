import { deepStrictEqual, ok, strictEqual, throws } from "node:assert/strict";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { detect } from "../../src/presets/detect.ts";
import { layerRule, type LayerRuleOptions } from "../../src/presets/rule.ts";
import { loadHeader } from "../support/header_files.ts";
import { detected, model, quantizedBy, weight } from "./model_names.ts";

function rule(options: Partial<LayerRuleOptions>) {
  return layerRule({
    tier: "balanced",
    detection: detected(null),
    preset: { kind: "auto" },
    excludeLayers: null,
    lora: false,
    ...options,
  });
}

const RAW = "the model reads this tensor itself, not through a linear layer";

Deno.test("layerRule() keeps whatever is no candidate, and says why", () => {
  const none = rule({ preset: { kind: "none" } });
  const cases: readonly [TensorInfo, string][] = [
    [weight("a.bias", [512]), "bias"],
    [weight("a.scale", [512, 512]), "not named *.weight"],
    [weight("a.in_proj_weight", [512, 512]), "not named *.weight"],
    [weight("a.weight", [512]), "not 2-D: shape [512]"],
    [weight("a.weight", [512, 4, 3, 3]), "not 2-D: shape [512, 4, 3, 3]"],
    [weight("a.weight", [0, 512]), "no elements"],
    [{ name: "a.weight", dtype: "I8", shape: [512, 512] }, "dtype I8 is not a float"],
    [{ name: "spiece_model", dtype: "U8", shape: [9] }, "not named *.weight"],
    [weight("__x0__", [0]), "not named *.weight"],
    [weight("model.embed_tokens.weight"), "embedding"],
    [weight("shared.weight"), "embedding"],
    [weight("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"), RAW],
    [weight("text_model.embeddings.position_embedding.weight"), RAW],
    [weight("visual.pos_embed.weight"), RAW],
    [weight("text_projection.weight"), RAW],
    [weight("cond_type_embedding.weight"), "embedding"],
    [weight("blocks.0.q_norm.weight"), "norm"],
    [weight("blocks.0.norm2.weight"), "norm"],
    [weight("ln_pre.weight"), "norm"],
    [weight("input_layernorm.weight"), "norm"],
    [
      weight("conditioner.embedders.0.transformer.a.weight"),
      "text encoder/VAE of an all-in-one checkpoint: stock ComfyUI has no quantized path",
    ],
    [weight("blocks.0.q.lora_A.weight"), "LoRA weight: needs --lora"],
  ];
  for (const [tensor, reason] of cases) {
    deepStrictEqual(none(tensor), { action: "keep", reason }, tensor.name);
  }
});

Deno.test("layerRule() takes linear layers whose names merely contain norm or embedding", () => {
  const none = rule({ preset: { kind: "none" } });
  for (
    const name of [
      "norm_out.linear.weight",
      "blocks.0.norm1.linear.weight",
      "time_embedding.0.weight",
      "x_embedder.weight",
      "context_embedder.weight",
      "text_embedding_projection.weight",
      "mlp.shared_experts.up.weight",
      "mean_normalizer_proj.weight",
    ]
  ) strictEqual(none(weight(name)).action, "quantize", name);
});

Deno.test("layerRule() applies the keep-lists of the family tier by tier", () => {
  const detection = detected("flux1");
  const layers = model([
    "img_in.weight",
    "double_blocks.0.txt_attn.qkv.weight",
    "single_blocks.0.linear1.weight",
  ]);
  deepStrictEqual(quantizedBy(rule({ detection }), layers), [
    "double_blocks.0.txt_attn.qkv.weight",
    "single_blocks.0.linear1.weight",
  ]);
  deepStrictEqual(quantizedBy(rule({ detection, tier: "conservative" }), layers), [
    "single_blocks.0.linear1.weight",
  ]);
  strictEqual(rule({ detection })(layers[0]!).reason, 'keep-list "img_in" of flux1');
});

Deno.test("layerRule() in the minimal tier ignores the keep-list and follows the official rule", () => {
  const detection = detected("z_image");
  const adaLN = weight("layers.0.adaLN_modulation.0.weight", [15360, 256]);
  strictEqual(rule({ detection, tier: "minimal" })(adaLN).action, "quantize");
  strictEqual(rule({ detection })(adaLN).action, "keep");
  const small = weight("layers.0.attention.qkv.weight", [64, 512]);
  strictEqual(rule({ detection, tier: "minimal" })(small).action, "keep");
  strictEqual(rule({ detection })(small).action, "quantize", "balanced knows no size limit");
});

Deno.test("layerRule() keeps edge blocks in the conservative tier, of the body's stacks only", () => {
  const tensors = loadHeader("ltx-2.3-22b-aio-dit");
  const conservative = rule({ detection: detect(tensors), tier: "conservative" });
  const at = (block: number) =>
    conservative(weight(`model.diffusion_model.transformer_blocks.${block}.ff.net.2.weight`));
  deepStrictEqual([0, 1, 2, 45, 46, 47].map((block) => at(block).action), [
    "keep",
    "keep",
    "quantize",
    "quantize",
    "keep",
    "keep",
  ]);
  strictEqual(at(0).reason, "edge block transformer_blocks.0 of ltxav");
});

Deno.test("layerRule() keeps one edge block at both ends of each large stack of an unknown model", () => {
  const body = Array.from({ length: 6 }, (_, i) => `odd_blocks.${i}.proj.weight`);
  const side = ["refiner.0.proj.weight", "refiner.1.proj.weight"];
  const tensors = model([...body, ...side]);
  const detection = detect(tensors);
  deepStrictEqual(quantizedBy(rule({ detection }), tensors), [...body, ...side]);
  // the refiner holds a quarter of the parameters here: large enough to have edges
  deepStrictEqual(
    quantizedBy(rule({ detection, tier: "conservative" }), tensors),
    body.slice(1, -1),
  );
  const longer = model([...body, "odd_blocks.6.proj.weight", ...side]);
  deepStrictEqual(
    quantizedBy(rule({ detection: detect(longer), tier: "conservative" }), longer),
    [
      "odd_blocks.1",
      "odd_blocks.2",
      "odd_blocks.3",
      "odd_blocks.4",
      "odd_blocks.5",
      "refiner.0",
      "refiner.1",
    ]
      .map((layer) => `${layer}.proj.weight`),
  );
});

Deno.test("layerRule() follows the official rule for unknown models in every tier", () => {
  for (const tier of ["minimal", "balanced"] as const) {
    deepStrictEqual(
      quantizedBy(
        rule({ tier }),
        model(["blocks.0.q.weight", "in.weight", "blocks.0.router.weight"]),
      ),
      ["blocks.0.q.weight"],
    );
  }
});

Deno.test("layerRule() takes a named family whatever was detected", () => {
  const named = rule({ preset: { kind: "family", id: "wan" }, detection: detected("flux1") });
  strictEqual(named(weight("head.head.weight")).action, "keep");
  strictEqual(named(weight("img_in.weight")).action, "quantize");
});

Deno.test("layerRule() keeps tensors outside of a prefixed model", () => {
  const detection = detected("wan", { prefix: "model.diffusion_model." });
  const outside = rule({ detection })(weight("text_embedding_projection.weight"));
  strictEqual(outside.reason, 'outside of the model behind "model.diffusion_model."');
  const inside = weight("model.diffusion_model.blocks.0.self_attn.q.weight");
  strictEqual(rule({ detection })(inside).action, "quantize");
});

Deno.test("layerRule() removes the decoder and lm_head of T5 in every tier", () => {
  for (const tier of ["minimal", "balanced", "conservative"] as const) {
    const t5 = rule({ tier, detection: detected("te_t5") });
    strictEqual(t5(weight("decoder.block.0.layer.0.SelfAttention.q.weight")).action, "remove");
    strictEqual(t5(weight("decoder.final_layer_norm.weight", [512])).action, "remove");
    strictEqual(t5(weight("lm_head.weight")).action, "remove");
    strictEqual(t5(weight("encoder.block.0.layer.0.SelfAttention.q.weight")).action, "quantize");
  }
});

Deno.test("layerRule() keeps everything of CLIP", () => {
  const names = ["text_model.encoder.layers.0.mlp.fc1.weight"];
  deepStrictEqual(quantizedBy(rule({ detection: detected("te_clip_l_g") }), model(names)), []);
});

Deno.test("layerRule() keeps what --exclude-layers finds, also with a global expression", () => {
  const excluding = rule({ detection: detected("wan"), excludeLayers: /blocks\.0\./g });
  const first = weight("blocks.0.self_attn.q.weight");
  for (let i = 0; i < 3; i++) strictEqual(excluding(first).action, "keep", `call ${i}`);
  strictEqual(excluding(first).reason, "--exclude-layers blocks\\.0\\.");
  strictEqual(excluding(weight("blocks.1.self_attn.q.weight")).action, "quantize");
});

Deno.test("layerRule() with documented presets uses their lists only", () => {
  const flux2 = rule({
    preset: { kind: "documented", names: ["flux2"] },
    detection: detected("wan"),
    tier: "conservative",
  });
  strictEqual(flux2(weight("head.head.weight")).action, "quantize");
  strictEqual(flux2(weight("txt_in.weight")).action, "keep");
  throws(() => rule({ preset: { kind: "documented", names: ["flux"] } }), /nearest is "flux2"/);
});

Deno.test("layerRule() refuses the preset kind like, which needs the reference file", () => {
  throws(() => rule({ preset: { kind: "like", path: "a.safetensors" } }), TypeError);
});

Deno.test("layerRule() quantizes only the pairs of a LoRA, and only when asked to", () => {
  const tensors = [
    weight("blocks.0.q.lora_down.weight", [16, 512]),
    weight("blocks.0.q.lora_up.weight", [512, 16]),
    weight("blocks.0.conv.lora_down.weight", [16, 512, 1, 1]),
    weight("blocks.0.q.alpha", []),
    weight("img_in.weight"),
  ];
  const detection = detected(null, { layout: "lora" });
  deepStrictEqual(quantizedBy(rule({ detection }), tensors), []);
  deepStrictEqual(quantizedBy(rule({ detection, lora: true }), tensors), [
    "blocks.0.q.lora_down.weight",
    "blocks.0.q.lora_up.weight",
  ]);
});

Deno.test("layerRule() on Anima quantizes 426 of the layers, as its converters do", () => {
  const block = ["self_attn", "cross_attn"].flatMap((attention) =>
    ["q_proj", "k_proj", "v_proj", "output_proj"].map((layer) => `${attention}.${layer}`)
  ).concat("mlp.layer1", "mlp.layer2").concat(
    ["self_attn", "cross_attn", "mlp"].flatMap((part) =>
      [1, 2].map((index) => `adaln_modulation_${part}.${index}`)
    ),
  );
  const names = Array.from(
    { length: 28 },
    (_, i) => block.map((layer) => `net.blocks.${i}.${layer}.weight`),
  )
    .flat().concat(
      "net.llm_adapter.blocks.0.cross_attn.q_proj.weight",
      "net.llm_adapter.embed.weight",
      "net.x_embedder.proj.1.weight",
      "net.t_embedder.1.linear_1.weight",
      "net.final_layer.linear.weight",
    );
  const tensors = model(names);
  strictEqual(quantizedBy(rule({ detection: detect(tensors) }), tensors).length, 426);
});

Deno.test("layerRule() reads the looser field patterns as the segments they mean", () => {
  const kept: readonly [family: string, name: string, kept: boolean][] = [
    ["ernie_image", "adaLN_modulation.1.weight", true],
    ["ernie_image", "final_norm.linear.weight", true],
    ["ernie_image", "final_linear.weight", true],
    ["ernie_image", "time_embedding.linear_1.weight", true],
    ["ernie_image", "layers.5.mlp.linear_fc2.weight", false],
    ["hidream_o1", "language_model.layers.35.mlp.down_proj.weight", true],
    ["hidream_o1", "language_model.layers.34.mlp.down_proj.weight", false],
    ["krea2", "first.weight", true],
    ["krea2", "last.linear.weight", true],
    ["krea2", "blocks.3.attn.wq.weight", false],
    ["te_llama_qwen_gemma_mistral", "vision_tower.encoder.layers.0.mlp.fc1.weight", true],
    ["te_llama_qwen_gemma_mistral", "audio_tower.layers.0.fc1.weight", true],
    ["te_llama_qwen_gemma_mistral", "model.visual.deepstack_merger_list.0.linear_fc1.weight", true],
    ["te_llama_qwen_gemma_mistral", "model.layers.1.linear_attn.in_proj_a.weight", true],
    ["te_llama_qwen_gemma_mistral", "model.layers.1.linear_attn.in_proj_qkv.weight", false],
    ["ltxav", "av_ca_a2v_gate_adaln_single.linear.weight", true],
    ["ltxav", "transformer_blocks.9.audio_to_video_attn.to_q.weight", false],
    ["lens", "transformer_blocks.4.img_mod.1.weight", true],
    ["minimax_h3", "blocks.7.adaln_proj.linear.weight", true],
    ["boogu", "norm_out.linear_1.weight", true],
    ["wan", "audio_injector.injector.0.q.weight", true],
  ];
  for (const [family, name, expected] of kept) {
    const { action } = rule({ detection: detected(family) })(weight(name));
    strictEqual(action, expected ? "keep" : "quantize", `${family}: ${name}`);
  }
  const down = weight("layers.4.feed_forward.w2.weight");
  strictEqual(
    rule({ detection: detected("ideogram4"), tier: "conservative" })(down).action,
    "keep",
  );
  ok(rule({ detection: detected("ideogram4") })(down).action === "quantize");
});
