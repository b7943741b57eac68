import assert from "node:assert/strict";
import fc from "fast-check";
import { UsageError } from "../../src/core/errors.ts";
import { parseAddKeys, parseKeyList } from "../../src/edit/parse_keys.ts";

Deno.test("parseAddKeys() reads pairs as Python and as JSON write them", () => {
  const expected = [["full_precision_matrix_mult", true], ["group_size", 64], ["n", null]];
  for (
    const text of [
      "'full_precision_matrix_mult': true, 'group_size': 64, 'n': null",
      '{"full_precision_matrix_mult": true, "group_size": 64, "n": null}',
      " full_precision_matrix_mult = True,group_size:64 , n: None, ",
    ]
  ) assert.deepEqual([...parseAddKeys(text)], expected, text);
  const nested = parseAddKeys(`a: {'b': [1, -2.5e1, "x'y"], "c": {}}, d: 'it\\'s "so"'`);
  assert.deepEqual(Object.fromEntries(nested), {
    a: { b: [1, -25, "x'y"], c: {} },
    d: 'it\'s "so"',
  });
});

Deno.test("parseAddKeys() reads back what JSON.stringify writes", () => {
  const key = fc.string({ minLength: 1 });
  fc.assert(
    fc.property(fc.dictionary(key, fc.jsonValue({ maxDepth: 4 }), { minKeys: 1 }), (object) => {
      const text = JSON.stringify(object);
      const plain = JSON.parse(text);
      fc.pre(!hasEmptyKey(plain));
      assert.deepEqual(Object.fromEntries(parseAddKeys(text)), plain);
      assert.deepEqual(Object.fromEntries(parseAddKeys(text.slice(1, -1))), plain);
    }),
  );
});

function hasEmptyKey(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([key, member]) => key === "" || hasEmptyKey(member));
}

Deno.test("parseAddKeys() names the character at which it cannot go on", () => {
  for (
    const [text, message] of [
      ["", /holds no key/],
      ["{}", /holds no key/],
      ["a", /character 2: a colon and a value must follow the key "a"/],
      ["a: b", /character 4: "b" is no value; texts stand in quotes/],
      ["a: 1 b: 2", /character 6: a comma is missing/],
      ["a: 1, a: 2", /the key "a" occurs twice/],
      ["a: 'x", /quote is not closed/],
      ["{a: 1", /a comma or } is missing|a key is missing/],
      ["{a: 1} x", /"x" was not expected/],
      ["a: 01", /"01" is no value/],
      ["a: NaN", /"NaN" is no value/],
      ["a: 1e999", /is no value/],
      ["'': 1", /a key is empty/],
      [`a: ${"[".repeat(50)}`, /nest deeper/],
    ] as const
  ) {
    assert.throws(() => parseAddKeys(text), (error: Error) => {
      assert(error instanceof UsageError, text);
      assert.match(error.message, message, text);
      return true;
    });
  }
});

Deno.test("parseKeyList() splits at commas and refuses empty and repeated names", () => {
  assert.deepEqual(parseKeyList("a.weight_scale, b.weight_scale,"), [
    "a.weight_scale",
    "b.weight_scale",
  ]);
  assert.throws(() => parseKeyList("a,,b"), UsageError);
  assert.throws(() => parseKeyList(","), UsageError);
  assert.throws(() => parseKeyList("a,a"), /twice/);
});
