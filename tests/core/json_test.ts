import assert from "node:assert/strict";
import fc from "fast-check";
import {
  isJsonObject,
  JsonError,
  type JsonFault,
  MAX_DEPTH,
  offsetOfKey,
  parseJsonStrict,
} from "../../src/core/json.ts";

function fault(text: string, options?: { integersOnly?: boolean }): JsonError {
  try {
    parseJsonStrict(text, options);
  } catch (error) {
    assert(error instanceof JsonError, String(error));
    return error;
  }
  assert.fail(`accepted ${text}`);
}

Deno.test("parseJsonStrict() gives what JSON.parse gives for any JSON", () => {
  fc.assert(fc.property(fc.json(), (text) => {
    assert.deepEqual(parseJsonStrict(text), JSON.parse(text));
  }));
});

Deno.test("parseJsonStrict() accepts spaced JSON as JSON.parse does", () => {
  fc.assert(fc.property(fc.jsonValue(), fc.integer({ min: 0, max: 4 }), (value, indent) => {
    const text = `\n ${JSON.stringify(value, null, indent)}\t\r\n`;
    assert.deepEqual(parseJsonStrict(text), JSON.parse(text));
  }));
});

Deno.test("parseJsonStrict() refuses whatever JSON.parse refuses, with a JsonError", () => {
  const pieces = fc.constantFrom(...'{}[]:,"\\ ae1.-\n', '"a":', '{"', "true", "\\u00", "1e5");
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
      const text = parts.join("");
      let valid = true;
      try {
        JSON.parse(text);
      } catch {
        valid = false;
      }
      try {
        parseJsonStrict(text);
        assert(valid, text);
      } catch (error) {
        assert(error instanceof JsonError, `${text}: ${error}`);
        if (valid) assert.equal(error.fault, "duplicate");
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("parseJsonStrict() names a repeated key and its place, at every depth", () => {
  const cases: [string, string, number][] = [
    ['{"a":1,"a":2}', "a", 7],
    ['{"x":{"b":1,"c":[{"b":1},{"d":1,"d":2}]}}', "d", 32],
    ['{"":1,"":2}', "", 6],
    ['{"a":1,"\\u0061":2}', "a", 7],
    ['{"\\"":1,"b":2,"\\u0022":2}', '"', 14],
    ['{"x\\\\":1,"b":2,"b":3}', "b", 15],
    ['{"__proto__":1,"__proto__":2}', "__proto__", 15],
    ['[{"a":{"a":{"a":1}}},{"k":1, "k" :1}]', "k", 29],
  ];
  for (const [text, key, offset] of cases) {
    const error = fault(text);
    assert.deepEqual([error.fault, error.key, error.offset], ["duplicate", key, offset], text);
    assert.match(error.message, new RegExp(`again at character ${offset}`));
  }
});

Deno.test("parseJsonStrict() finds a repeated key among many", () => {
  for (const count of [2, 15, 16, 17, 500]) {
    for (const repeated of [0, count - 1]) {
      const keys = [...Array.from({ length: count }, (_, i) => `k${i}`), `k${repeated}`];
      const text = `{${keys.map((key) => `"${key}":0`).join(",")}}`;
      assert.equal(fault(text).key, `k${repeated}`);
    }
  }
});

Deno.test("parseJsonStrict() allows one key in several objects, and as a value", () => {
  for (const text of ['[{"a":1},{"a":"a"}]', '{"a":{"a":["a","a"]}}', '{"a":"b","b":"a:a"}']) {
    assert.deepEqual(parseJsonStrict(text), JSON.parse(text));
  }
});

Deno.test("parseJsonStrict() is not misled by quotes and braces inside strings", () => {
  const text = JSON.stringify({ 'a\\"{': '}","a":1', "b\\": "[[", c: '\\\\"' });
  assert.deepEqual(parseJsonStrict(text), JSON.parse(text));
});

Deno.test("parseJsonStrict() keeps __proto__ a plain own property", () => {
  const value = parseJsonStrict('{"__proto__":{"polluted":1},"constructor":2}');
  assert(isJsonObject(value));
  assert.deepEqual(Object.keys(value), ["__proto__", "constructor"]);
  assert.equal(value.polluted, undefined);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

Deno.test("parseJsonStrict() accepts MAX_DEPTH levels and refuses one more, however many follow", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  parseJsonStrict(nested(MAX_DEPTH));
  const error = fault(nested(MAX_DEPTH + 1));
  assert.deepEqual([error.fault, error.offset], ["depth", MAX_DEPTH]);
  assert.equal(fault("[".repeat(1_000_000)).fault, "depth");
  assert.equal(fault('{"a":'.repeat(200_000)).fault, "depth");
});

Deno.test("parseJsonStrict() refuses fractions and exponents if only integers are allowed", () => {
  for (const [text, offset] of [["[1.0]", 2], ['{"a":1e3}', 6], ["[12E2]", 3]] as const) {
    const error = fault(text, { integersOnly: true });
    assert.deepEqual([error.fault, error.offset], ["number", offset], text);
    parseJsonStrict(text);
  }
  const fine = '{"1.5":["1e5",true,false,null,-3,0],"e.E":12}';
  assert.deepEqual(parseJsonStrict(fine, { integersOnly: true }), JSON.parse(fine));
});

Deno.test("parseJsonStrict() distinguishes trailing text from other faults", () => {
  const cases: [string, JsonFault, number | null][] = [
    ['{"a":1}x', "trailing", 7],
    ['{"a":1}\0\0', "trailing", 7],
    ["[1]{}", "trailing", 3],
    ['{"a":}}', "syntax", null],
  ];
  for (const [text, kind, offset] of cases) {
    const error = fault(text);
    assert.equal(error.fault, kind, text);
    if (offset !== null) assert.equal(error.offset, offset, text);
  }
});

Deno.test("parseJsonStrict() puts no control characters of the text into its message", () => {
  assert.doesNotMatch(fault('{"a":\u001b[31m}').message, /\p{Cc}/u);
});

Deno.test("offsetOfKey() finds keys of the outermost object only", () => {
  const text = '{"m":{"b":"b"},"x":["b"],"b":1}';
  assert.equal(offsetOfKey(text, "b"), 25);
  assert.equal(offsetOfKey(text, "m"), 1);
  assert.equal(offsetOfKey(text, "none"), -1);
});
