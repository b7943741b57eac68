import { match, strictEqual } from "node:assert/strict";
import { detect } from "../../src/presets/detect.ts";
import { explain, presetOfAnother } from "../../src/presets/explain.ts";
import type { PresetChoice, Tier } from "../../src/presets/preset.ts";
import { loadHeader } from "../support/header_files.ts";
import { detected, model } from "./model_names.ts";

Deno.test("explain() names the rule that acts, not the one that would by default", () => {
  const flux2 = detect(loadHeader("flux2-dev"));
  const of = (preset: PresetChoice, tier: Tier = "balanced") => explain(flux2, { preset, tier });
  const head = "flux2 (FLUX.2), ";
  strictEqual(of({ kind: "none" }), `${head}no keep-list (--preset none)`);
  strictEqual(of({ kind: "like", path: "q.st" }), `${head}the layers of q.st (--like)`);
  strictEqual(
    of({ kind: "documented", names: ["wan"] }),
    `${head}documented keep-list of --wan`,
  );
  strictEqual(of({ kind: "auto" }, "minimal"), `${head}the official rule applies (tier minimal)`);
  strictEqual(
    of({ kind: "auto" }, "conservative").startsWith(`${head}conservative keep-list`),
    true,
  );
  strictEqual(
    of({ kind: "family", id: "wan" }).startsWith(`${head}balanced keep-list of wan of `),
    true,
  );
});

Deno.test("presetOfAnother() warns of the keep-list of another family only", () => {
  const flux2 = detect(loadHeader("flux2-dev"));
  strictEqual(presetOfAnother(flux2, { kind: "family", id: "flux2" }), null);
  strictEqual(presetOfAnother(flux2, { kind: "auto" }), null);
  match(presetOfAnother(flux2, { kind: "family", id: "wan" })!, /^the model is flux2, .* of wan/);
});

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
