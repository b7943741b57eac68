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

Deno.test("NameIndex.candidates() leaves out no name that has a text of every list, and is sorted", () => {
  const text = fc.stringMatching(/^[ab.]{1,3}$/);
  const lists = fc.array(fc.array(text, { minLength: 1, maxLength: 3 }), { maxLength: 3 });
  const names = fc.array(fc.stringMatching(/^[ab.]{0,5}$/), { maxLength: 8 });
  fc.assert(fc.property(names, lists, (names, lists) => {
    const found = new NameIndex(names).candidates(lists);
    assert.deepEqual(found, [...new Set(found)].sort((a, b) => a - b));
    names.forEach((name, i) => {
      const has = lists.every((texts) => texts.some((part) => name.includes(part)));
      if (has) assert.ok(found.includes(i));
    });
  }));
});
