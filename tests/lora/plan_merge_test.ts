import assert from "node:assert/strict";
import { FormatError, UnsupportedError, UsageError } from "../../src/core/errors.ts";
import { type LoraFile, planMerge } from "../../src/lora/plan_merge.ts";
import {
  clip,
  FLUX_BLOCKS,
  FLUX_ENDS,
  KOHYA,
  pairs,
  type PairStyle,
  peft,
  QWEN_ADAPTED,
  QWEN_MODEL,
  tensor,
  weights,
} from "./headers.ts";

const FLUX = weights([...FLUX_BLOCKS, ...FLUX_ENDS]);
const TE1: PairStyle = { ...KOHYA, key: (layer) => `lora_te1_${layer.replaceAll(".", "_")}` };

function file(path: string, tensors: LoraFile["tensors"]): LoraFile {
  return { path, tensors, metadata: null };
}

Deno.test("planMerge() dampens by the place in the list, whatever the earlier files touch", () => {
  const one = (layer: number) =>
    file(`${layer}.safetensors`, pairs([FLUX_BLOCKS[layer]!], 4, KOHYA));
  const files = [one(0), one(1), one(1)];
  const plan = planMerge(files, FLUX, { scale: 0.5 });
  const name = `${FLUX_BLOCKS[1]![0]}.weight`;
  const steps = plan.steps.get(name)!;
  assert.deepEqual(steps.map((s) => s.file), [1, 2]);
  steps.forEach((s, i) => assert.ok(Math.abs(s.strength - 0.5 * [0.9, 0.81][i]!) < 1e-12));
  assert.equal(plan.steps.get(`${FLUX_BLOCKS[0]![0]}.weight`)![0]!.strength, 0.5);
  const even = planMerge(files, FLUX, { scale: 0.5, dampen: false });
  assert.deepEqual(even.reports.map((r) => r.strength), [0.5, 0.5, 0.5]);
});

Deno.test("planMerge() lists what has no place, and makes it an error with strict", () => {
  const lora = file("l.safetensors", [
    ...pairs(FLUX_BLOCKS, 4, KOHYA),
    ...pairs(clip(12, 768), 4, TE1),
  ]);
  const [report] = planMerge([lora], FLUX).reports;
  assert.deepEqual([report!.modules, report!.resolved, report!.unmatched.length], [376, 304, 72]);
  assert.throws(() => planMerge([lora], FLUX, { strict: true }), (error: unknown) => {
    assert.ok(error instanceof UnsupportedError);
    assert.match(error.message, /"l\.safetensors": 72 of its layers.*--strict/);
    assert.match(error.message, /"lora_te1_text_model_encoder_layers_0_mlp_fc1"/);
    return true;
  });
});

Deno.test("planMerge() refuses a LoRA of another model, also if some names agree", () => {
  const refused = (lora: LoraFile, model: typeof FLUX, message: RegExp) =>
    assert.throws(() => planMerge([lora], model), (error: unknown) => {
      assert.ok(error instanceof UnsupportedError);
      assert.match(error.message, message);
      return true;
    });
  const qwen = file("qwen.safetensors", pairs(QWEN_ADAPTED, 4, peft("")));
  refused(qwen, FLUX, /it is for another model, 152 of its 720 layers/);
  const flux = file("flux.safetensors", [
    ...pairs(FLUX_BLOCKS, 4, KOHYA),
    ...pairs(clip(12, 768), 4, TE1),
  ]);
  refused(flux, weights(QWEN_MODEL), /0 of its 376 layers/);
  // An all-in-one file has the same CLIP-L, but not the denoiser.
  const sdxl = [
    ...weights([["input_blocks.4.1.proj_in", [640, 640]]], "model.diffusion_model."),
    ...weights(clip(12, 768), "conditioner.embedders.0.transformer."),
  ];
  refused(flux, sdxl, /0 of its 304 layers/);
  assert.equal(planMerge([flux], weights(clip(12, 768))).reports[0]!.resolved, 72);
});

Deno.test("planMerge() accepts a relative that lacks a quarter of the layers", () => {
  const chroma = FLUX.filter((t) => !/_mod\.|modulation/.test(t.name));
  const lora = file("l.safetensors", pairs(FLUX_BLOCKS, 4, KOHYA));
  const [report] = planMerge([lora], chroma).reports;
  assert.deepEqual([report!.resolved, report!.unmatched.length], [228, 76]);
});

Deno.test("planMerge() passes on what is wrong with a file or the scale", () => {
  const broken = file("l.safetensors", [tensor("x.lora_A.weight", [4, 8])]);
  assert.throws(() => planMerge([broken], FLUX), FormatError);
  assert.throws(() => planMerge([], FLUX, { scale: NaN }), UsageError);
});
