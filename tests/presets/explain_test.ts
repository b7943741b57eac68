import { strictEqual } from "node:assert/strict";
import { detect } from "../../src/presets/detect.ts";
import { explain } from "../../src/presets/explain.ts";
import { loadHeader } from "../support/header_files.ts";
import { detected, model } from "./model_names.ts";

Deno.test("explain() says in one line what a file is and what follows", () => {
  const of = (name: string) => explain(detect(loadHeader(name)));
  strictEqual(of("flux2-dev"), "flux2 (FLUX.2), balanced keep-list of 8 patterns");
  strictEqual(
    of("lora-flux1-peft-diffusers"),
    'LoRA, recognised by "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"',
  );
  strictEqual(
    of("z-image-turbo-diffusers-layout"),
    'diffusers layout, recognised by "layers.0.attention.to_q.weight": ' +
      "the official rule applies",
  );
  strictEqual(
    explain(detect(model(["a.weight"]))),
    "unknown model: the official rule applies",
  );
  strictEqual(
    explain(detected("te_clip_l_g")),
    "te_clip_l_g (CLIP-L/CLIP-G text encoder), not converted: " +
      "stock ComfyUI has no quantized path for CLIP text encoders",
  );
});
