import assert from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import { mappingKeyFor, modelStem, parseLoraMapping } from "../../src/lora/lora_mapping.ts";

function mapping(value: unknown) {
  return parseLoraMapping(JSON.stringify(value), "m.json");
}

Deno.test("parseLoraMapping() reads one path or several, and leaves out keys that begin with _", () => {
  const { entries } = mapping({ a: "x", b: ["y", "z"], c: [], _comment: { any: 1 } });
  assert.deepEqual([...entries], [["a", ["x"]], ["b", ["y", "z"]], ["c", []]]);
});

Deno.test("parseLoraMapping() names file and entry of what is wrong", () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['{"a": 3}', /"m\.json": entry "a" is 3/],
    ['{"a": ["x", ""]}', /entry "a" is \["x",""\]/],
    ['{"a": {"path": "x"}}', /entry "a" is/],
    ['{"": "x"}', /entry "" is empty/],
    ['["x"]', /no object of model names/],
    ['{"a": "x", "a": "y"}', /"a"/],
    ['{"a": "x" // y\n}', /Cannot read LoRA mapping "m\.json"/],
    ['\ufeff{"a": "x"}', /byte order mark/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseLoraMapping(text, "m.json"), (error: unknown) => {
      assert.ok(error instanceof UsageError, text);
      assert.match(error.message, message);
      return true;
    }, text);
  }
});

Deno.test("mappingKeyFor() prefers the file name, then the stem, then the longest delimited part", () => {
  const keys = mapping({
    flux: "1",
    "flux-dev": "2",
    "my_flux-dev": "3",
    "my_flux-dev.safetensors": "4",
  });
  assert.equal(mappingKeyFor(keys, "my_flux-dev.safetensors"), "my_flux-dev.safetensors");
  assert.equal(mappingKeyFor(keys, "my_flux-dev.safetensors.index.json"), "my_flux-dev");
  assert.equal(mappingKeyFor(keys, "your_flux-dev.safetensors"), "flux-dev");
  assert.equal(mappingKeyFor(keys, "flux.safetensors"), "flux");
});

Deno.test("mappingKeyFor() finds no part that ends within a word", () => {
  const keys = mapping({ v1: "1" });
  assert.equal(mappingKeyFor(keys, "model_v10.safetensors"), null);
  assert.equal(mappingKeyFor(keys, "model_v10_v1.safetensors"), "v1");
  assert.equal(mappingKeyFor(keys, "V1.safetensors"), null);
});

Deno.test("modelStem() takes the endings of files and indexes away", () => {
  assert.equal(modelStem("a.b.safetensors"), "a.b");
  assert.equal(modelStem("a.safetensors.index.json"), "a");
});
