import { ok, strictEqual, throws } from "node:assert/strict";
import fc from "fast-check";
import { convrotGroupFor, officialKeepReason } from "../../src/presets/official_rule.ts";
import { weight } from "./model_names.ts";

const quantizes = (name: string, shape?: readonly number[]) =>
  officialKeepReason(weight(`${name}.weight`, shape)) === null;

Deno.test("officialKeepReason() takes large matrices inside numbered blocks only", () => {
  ok(quantizes("blocks.0.attn.q"));
  ok(quantizes("label_emb.0.0"), "the first number is a block");
  ok(!quantizes("time_in.mlp.0"), "the only number is the last segment");
  ok(!quantizes("img_in"));
  ok(quantizes("blocks.0.attn.q", [256, 256]));
  ok(!quantizes("blocks.0.attn.q", [255, 4096]));
  ok(!quantizes("blocks.0.attn.q", [4096, 255]));
});

Deno.test("officialKeepReason() keeps matrices that no rotation group divides", () => {
  ok(quantizes("visual.blocks.0.mlp.gate_proj", [3420, 1280]));
  ok(!quantizes("visual.blocks.0.mlp.down_proj", [1280, 3420]));
});

Deno.test("officialKeepReason() keeps segments that contain a steering word", () => {
  for (
    const name of [
      "blocks.0.t_embedder.mlp",
      "blocks.0.to_gate_logits",
      "txtfusion.refiner_blocks.0.attn.wq",
      "llm_adapter.blocks.0.attn.q_proj",
      "blocks.0.guidance_in",
      "blocks.0.text_embedding",
    ]
  ) ok(!quantizes(name), name);
});

Deno.test("officialKeepReason() compares words, separated by underscores, and runs of words", () => {
  ok(!quantizes("blocks.0.time_mixer"));
  ok(!quantizes("blocks.0.timestep_proj"));
  ok(quantizes("blocks.0.daytime"));
  ok(!quantizes("blocks.0.final_norm"));
  ok(quantizes("blocks.0.finals"));
  ok(!quantizes("blocks.0.audio_head"));
  ok(quantizes("blocks.0.heads"));
  ok(!quantizes("input_blocks.4.1.proj_out"));
  ok(!quantizes("blocks.0.audio_proj_out"));
  ok(quantizes("blocks.0.proj_outer"));
  ok(!quantizes("blocks.0.out_layer"));
  ok(quantizes("blocks.0.out_layers"));
  ok(!quantizes("blocks.0.shared"), "a token embedding");
  ok(quantizes("blocks.0.shared_experts"));
});

Deno.test("convrotGroupFor() gives the largest of 256, 64 and 16 that divides, or none", () => {
  strictEqual(convrotGroupFor(4096, "auto"), 256);
  strictEqual(convrotGroupFor(320, "auto"), 64);
  strictEqual(convrotGroupFor(2544, "auto"), 16);
  strictEqual(convrotGroupFor(3420, "auto"), null);
});

Deno.test("convrotGroupFor() gives a wanted power of 4 if it divides, and refuses other sizes", () => {
  strictEqual(convrotGroupFor(4096, 1024), 1024);
  strictEqual(convrotGroupFor(3420, 4), 4);
  strictEqual(convrotGroupFor(320, 256), null);
  for (const size of [0, 1, 2, 8, 128, -4, 2.5, NaN]) {
    throws(() => convrotGroupFor(4096, size), RangeError, String(size));
  }
});

Deno.test("convrotGroupFor() never gives a size that does not divide", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 65536 }), (cols) => {
    const size = convrotGroupFor(cols, "auto");
    strictEqual(size === null, cols % 16 !== 0);
    if (size !== null) strictEqual(cols % size, 0);
  }));
});
