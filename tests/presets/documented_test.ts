import { deepStrictEqual, ok, strictEqual, throws } from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import {
  DOCUMENTED_NAMES,
  DOCUMENTED_PRESETS,
  documentedPreset,
  documentedRule,
} from "../../src/presets/documented.ts";
import { loadHeader } from "../support/header_files.ts";
import { quantizedBy, weight } from "./model_names.ts";

Deno.test("DOCUMENTED_PRESETS holds the 15 presets of the manual with all their patterns", () => {
  const sizes = Object.entries(DOCUMENTED_PRESETS).map(([name, preset]) => [
    name,
    preset.category,
    preset.exclude?.length ?? 0,
    preset.highprec?.length ?? 0,
    preset.remove?.length ?? 0,
  ]);
  deepStrictEqual(sizes, [
    ["t5xxl", "text", 30, 0, 2],
    ["mistral", "text", 30, 0, 0],
    ["visual", "text", 3, 0, 0],
    ["flux2", "diffusion", 0, 6, 0],
    ["distillation_large", "diffusion", 0, 4, 0],
    ["distillation_small", "diffusion", 0, 1, 0],
    ["nerf_large", "diffusion", 0, 4, 0],
    ["nerf_small", "diffusion", 0, 3, 0],
    ["radiance", "diffusion", 0, 3, 0],
    ["wan", "video", 30, 14, 0],
    ["hunyuan", "video", 11, 0, 0],
    ["qwen", "image", 5, 6, 0],
    ["zimage", "image", 11, 9, 0],
    ["zimage_refiner", "image", 11, 2, 0],
    ["lora", "diffusion", 2, 0, 0],
  ]);
  deepStrictEqual(DOCUMENTED_NAMES, Object.keys(DOCUMENTED_PRESETS));
});

Deno.test("documentedRule() matches substrings of the full name, as documented", () => {
  const rule = documentedRule(["flux2"]);
  strictEqual(rule(weight("blocks.0.my_img_in_too.weight")).action, "keep");
  strictEqual(rule(weight("double_blocks.0.img_attn.qkv.weight")).action, "quantize");
  deepStrictEqual(rule(weight("final_layer.linear.weight")), {
    action: "keep",
    reason: '--flux2 keeps "final_layer"',
  });
});

Deno.test("documentedRule() quantizes 160 layers of FLUX.2 dev, 400 of Wan 2.2, 839 of Qwen-Image", () => {
  const count = (preset: string, header: string) =>
    quantizedBy(documentedRule([preset]), loadHeader(header)).length;
  strictEqual(count("flux2", "flux2-dev"), 160);
  strictEqual(count("wan", "wan2.2-t2v-14b-fp16"), 400);
  strictEqual(count("qwen", "qwen-image"), 839); // all but transformer_blocks.0.img_mod.1
  strictEqual(count("t5xxl", "t5xxl-fp16"), 168);
  strictEqual(count("zimage", "z-image-turbo"), 170);
});

Deno.test("documentedRule() of t5xxl removes the decoder and lm_head, which it also excludes", () => {
  const rule = documentedRule(["t5xxl"]);
  strictEqual(rule(weight("lm_head.weight")).action, "remove");
  strictEqual(rule(weight("decoder.block.0.layer.0.SelfAttention.q.weight")).action, "remove");
  strictEqual(rule(weight("decoder.final_layer_norm.weight", [512])).action, "remove");
  strictEqual(rule(weight("encoder.block.0.layer.0.SelfAttention.q.weight")).action, "quantize");
});

Deno.test("documentedRule() combines presets to the union of their lists", () => {
  const rule = documentedRule(["zimage", "zimage_refiner"]);
  strictEqual(rule(weight("noise_refiner.0.attention.qkv.weight")).action, "keep");
  strictEqual(rule(weight("x_embedder.weight")).action, "keep");
  strictEqual(rule(weight("layers.0.attention.qkv.weight")).action, "quantize");
});

Deno.test("documentedRule() keeps embeddings and norms that no preset names", () => {
  const rule = documentedRule(["flux2"]);
  strictEqual(rule(weight("model.embed_tokens.weight")).reason, "embedding");
  strictEqual(rule(weight("blocks.0.q_norm.weight")).reason, "norm");
});

Deno.test("documentedRule() quantizes LoRA matrices under lora only", () => {
  const down = weight("lora_unet_blocks_0_attn_q.lora_down.weight", [16, 512]);
  strictEqual(documentedRule(["lora"])(down).action, "quantize");
  strictEqual(documentedRule(["flux2"])(down).action, "keep");
  strictEqual(documentedRule(["lora"])(weight("x.alpha", [])).action, "keep");
});

Deno.test("documentedPreset() names the nearest preset for an unknown one", () => {
  throws(() => documentedPreset("zimag"), (error) => {
    ok(error instanceof UsageError);
    strictEqual(error.message, 'Unknown preset "zimag": the nearest is "zimage"');
    return true;
  });
  throws(() => documentedRule(["toString"]), UsageError);
});
