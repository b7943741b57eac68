import assert from "node:assert/strict";
import fc from "fast-check";
import { NameIndex } from "../../src/config/name_index.ts";

Deno.test("NameIndex finds the names that contain a text, and no others", () => {
  const text = fc.stringMatching(/^[ab.]{0,5}$/);
  fc.assert(fc.property(fc.array(text, { maxLength: 8 }), text, (names, part) => {
    const want = names.flatMap((name, i) => name.includes(part) ? [i] : []);
    assert.deepEqual(new NameIndex(names).containing(part), want);
  }));
});
