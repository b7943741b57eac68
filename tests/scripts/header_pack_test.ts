import { deepStrictEqual, throws } from "node:assert/strict";
import {
  addHeaders,
  factsOfIndex,
  headerOf,
  packHeaders,
  unpackHeaders,
} from "../../scripts/support/header_pack.ts";

const tensors = {
  "blocks.0.q.weight": ["I8", [512, 512]],
  "blocks.0.k.weight": ["F8_E4M3", [512, 512]],
  "blocks.0.v.weight": ["BF16", [512, 512]],
  "blocks.0.codes": ["I8", [4]],
};
const text = (more: object) => JSON.stringify({ tensors, ...more });

Deno.test("addHeaders() keeps the headers that are packed and replaces those of the same name", () => {
  const old = ["b", "c"].map((name) => headerOf(name, text({ src: "dump", rule: 3 })));
  const added = ["c", "a"].map((name) => headerOf(name, text({ src: "generated", rule: 2 })));
  const all = unpackHeaders(packHeaders(addHeaders(old, added)));
  deepStrictEqual(all.map(({ name, src, rule }) => [name, src, rule]), [
    ["a", "generated", 2],
    ["b", "dump", 3],
    ["c", "generated", 2],
  ]);
});

Deno.test("headerOf() counts the weights that are quantized, and takes facts from an index", () => {
  const index = factsOfIndex(
    "| name | tensors | rule | src |\n|---|---|---|---|\n| x | 4 | 3 | dump |",
  );
  const { rule, src, quantized } = headerOf("x", text({}), index.get("x"));
  deepStrictEqual([rule, src, quantized], [3, "dump", 2]);
});

Deno.test("headerOf() names the file and what is missing of it", () => {
  const cases: readonly [string, RegExp][] = [
    [text({ src: "dump" }), /Cannot pack "x.json": "rule" must be the number of layers/],
    [text({ src: "seen", rule: 1 }), /"src" must be "dump"/],
    [JSON.stringify({ src: "dump", rule: 1 }), /it has no "tensors"/],
    [JSON.stringify({ src: "dump", rule: 1, tensors: { a: [1] } }), /tensor "a" is not \[dtype/],
  ];
  for (const [json, message] of cases) throws(() => headerOf("x", json), message);
});
