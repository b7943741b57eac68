import assert from "node:assert/strict";
import fc from "fast-check";
import { NameIndex } from "../../src/config/name_index.ts";
import { TextAutomaton } from "../../src/config/text_automaton.ts";

/** Few letters, so that texts overlap and contain one another. */
const words = fc.string({ unit: fc.constantFrom("a", "b", "."), minLength: 1, maxLength: 6 });

/** How often `text` is in `string`, overlaps counted. */
function countOf(string: string, text: string): number {
  let count = 0;
  for (let at = string.indexOf(text); at >= 0; at = string.indexOf(text, at + 1)) count++;
  return count;
}

Deno.test("TextAutomaton finds every text as often as it is there", () => {
  fc.assert(
    fc.property(fc.uniqueArray(words, { maxLength: 30 }), fc.array(words), (texts, parts) => {
      const string = parts.join(""), automaton = new TextAutomaton(texts);
      const found = texts.map(() => 0);
      automaton.search(string, (text) => found[text]!++);
      assert.deepEqual(found, texts.map((text) => countOf(string, text)), string);
    }),
    { numRuns: 500 },
  );
});

Deno.test("NameIndex answers the same for texts that it was prepared for", () => {
  // So many characters that they are looked for together.
  const names = Array.from({ length: 12_000 }, (_, i) => `blocks.${i}.attn.to_q.weight`);
  const texts = names.filter((_, i) => i % 25 === 0).map((name) => name.slice(0, -7));
  const plain = new NameIndex(names), prepared = new NameIndex(names);
  prepared.prepare([...texts, "attn.to_v", "locks.11.", ".weight", ""]);
  for (const text of [...texts.slice(0, 20), "attn.to_v", "locks.11.", ".weight", ""]) {
    assert.deepEqual(prepared.candidates([[text]]), plain.candidates([[text]]), text);
  }
});
