import { deepStrictEqual, strictEqual, throws } from "node:assert/strict";
import { loadLoraForMerging } from "../../src/lora/load_lora.ts";
import { withAdapterConfig } from "../../src/safetensors/adapter_config.ts";
import { safetensors, TempFolder, tensor } from "../support/header_fixtures.ts";

const FLOATS = new Uint8Array(new Float32Array(16).fill(1).buffer);
const PAIR = [
  tensor("base_model.model.blocks.0.q.lora_A.weight", "F32", [4, 4], FLOATS),
  tensor("base_model.model.blocks.0.q.lora_B.weight", "F32", [4, 4], FLOATS),
];
const LAYER = "base_model.model.blocks.0.q";

/** The alpha of the pair in a folder with this configuration. */
function alphaWith(config: unknown, metadata: Record<string, string> | null = null): number {
  using folder = new TempFolder();
  const path = folder.write("adapter_model.safetensors", safetensors(PAIR, metadata));
  folder.write("adapter_config.json", typeof config === "string" ? config : JSON.stringify(config));
  return loadLoraForMerging(path).get(LAYER)!.alpha;
}

Deno.test("an adapter takes alpha and rsLoRA from the configuration beside it", () => {
  strictEqual(alphaWith({ r: 4, lora_alpha: 64 }), 64);
  strictEqual(alphaWith({ r: 4, lora_alpha: 64, use_rslora: true }), 128); // 64 / sqrt(4) = 128 / 4
  strictEqual(alphaWith({ r: 9, rank_pattern: { "blocks.0.q": 4 }, lora_alpha: 8 }), 8);
  strictEqual(alphaWith({ r: 4, lora_alpha: 2, alpha_pattern: { "blocks.0.q": 6 } }), 6);
});

Deno.test("what the header says of alpha comes before the configuration beside it", () => {
  const own = { adapter_config: JSON.stringify({ lora_alpha: 3 }) };
  strictEqual(alphaWith({ lora_alpha: 64 }, own), 3);
});

Deno.test("a configuration that does not fit is an error that says so", () => {
  throws(
    () => alphaWith({ r: 16, lora_alpha: 64 }),
    /adapter_config.json.r is 16, the pair has rank 4/,
  );
  throws(() => alphaWith("{"), /adapter_config.json/);
  throws(() => alphaWith({ lora_alpha: "64" }), /lora_alpha is "64", a finite number is needed/);
  throws(() => alphaWith(" ".repeat(2 << 20)), /more than a configuration of an adapter/);
});

Deno.test("withAdapterConfig() leaves files alone that the configuration does not speak of", () => {
  using folder = new TempFolder();
  const names = ["a.safetensors", "b.safetensors"];
  const paths = names.map((name) => folder.write(name, safetensors(PAIR)));
  strictEqual(withAdapterConfig(paths[0]!, null), null, "no configuration");
  folder.write("adapter_config.json", "{}");
  strictEqual(withAdapterConfig(paths[0]!, null), null, "one of several");
  const adapter = folder.write("adapter_model.fp16.safetensors", safetensors(PAIR));
  deepStrictEqual(withAdapterConfig(adapter, { a: "b" }), { "adapter_config.json": "{}", a: "b" });
});
