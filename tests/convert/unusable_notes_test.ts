import { deepStrictEqual, match, strictEqual } from "node:assert/strict";
import { join } from "node:path";
import { prepare } from "../../src/convert/prepare.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { headerProblems } from "../../src/verify/verify.ts";
import { safetensors, TempFolder, tensor } from "../support/header_fixtures.ts";

/** Notes of a conversion that concern what stock ComfyUI cannot use. */
function notesOf(path: string): string[] {
  const options = { ...DEFAULT_CONVERT_OPTIONS, allowCopy: true };
  return prepare(path, options).notes.filter((note) => note.includes("cannot use"));
}

Deno.test("prepare() warns of what verify would reject, before the work", () => {
  using folder = new TempFolder();
  const q = (name: string) => tensor(name, "BF16", [512, 512], new Uint8Array(512 * 512 * 2));
  const cases: readonly [RegExp, string[]][] = [
    [/CLIP vision, SigLIP/, ["vision_model.encoder.layers.0.self_attn.q_proj.weight"]],
    [/ControlNets/, ["controlnet_blocks.0.weight", "transformer_blocks.0.attn.to_q.weight"]],
    [/ControlNets/, ["control_layers.0.attention.qkv.weight"]],
    [/VAEs/, ["decoder.mid.0.attn_1.q.weight", "post_quant_conv.weight"]],
  ];
  for (const [what, names] of cases) {
    const notes = notesOf(folder.write("m.safetensors", safetensors(names.map(q))));
    strictEqual(notes.length, 1, names.join());
    match(notes[0]!, what);
  }
  deepStrictEqual(notesOf(folder.write("ok.safetensors", safetensors([q("x.0.q.weight")]))), []);
});

Deno.test("a shard alone is warned of and does not verify, an index of any variant is whole", () => {
  using folder = new TempFolder();
  const names = [1, 2].map((k) => `model.fp16-0000${k}-of-00002.safetensors`);
  names.forEach((name, k) =>
    folder.write(name, safetensors([tensor(`a.${k}.weight`, "BF16", [4, 4])]))
  );
  folder.write(
    "model.safetensors.index.fp16.json",
    JSON.stringify({ weight_map: { "a.0.weight": names[0], "a.1.weight": names[1] } }),
  );
  const lone = join(folder.path, names[0]!);
  match(notesOf(lone)[0]!, /shard 1 of 2 alone/);
  const rules = (path: string) =>
    headerProblems(openModel(path), [], () => new Uint8Array())
      .map(({ rule, severity }) => `${rule} ${severity}`);
  deepStrictEqual(rules(lone), ["lone-shard error"]);
  for (const path of [folder.path, join(folder.path, "model.safetensors.index.fp16.json")]) {
    deepStrictEqual(openModel(path).tensors.map(({ name }) => name), ["a.0.weight", "a.1.weight"]);
    deepStrictEqual(notesOf(path), []);
    deepStrictEqual(rules(path), ["sharded warning"]);
  }
});
