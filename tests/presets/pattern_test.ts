import { deepStrictEqual, strictEqual, throws } from "node:assert/strict";
import fc from "fast-check";
import { compilePatterns } from "../../src/presets/pattern.ts";

const matches = (pattern: string, name: string) => compilePatterns([pattern])(name) !== null;

Deno.test("compilePatterns() matches whole segments only", () => {
  const cases: readonly [pattern: string, name: string, expected: boolean][] = [
    ["img_in", "img_in.weight", true],
    ["img_in", "img_in_patch.weight", false],
    ["head", "head.head.weight", true],
    ["head", "head_norm.weight", false],
    ["head", "blocks.0.attn.head.weight", true],
    ["norm_out", "norm_out.linear.weight", true],
    ["img_attn.proj", "double_blocks.3.img_attn.proj.weight", true],
    ["img_attn.proj", "double_blocks.3.img_attn.x.proj.weight", false],
    ["img_attn.proj", "double_blocks.3.txt_img_attn.proj.weight", false],
    ["blocks.0", "blocks.0.attn.weight", true],
    ["blocks.0", "blocks.01.attn.weight", false],
    ["blocks.0", "double_blocks.0.attn.weight", false],
    ["av_ca_*_adaln_single", "av_ca_a2v_gate_adaln_single.linear.weight", true],
    ["av_ca_*_adaln_single", "av_ca_x.y_adaln_single.weight", false],
    ["*vision*", "embed_vision.proj.weight", true],
    ["*", "anything.at.all", true],
    ["a+b", "aab.weight", false],
  ];
  for (const [pattern, name, expected] of cases) {
    strictEqual(matches(pattern, name), expected, `${pattern} on ${name}`);
  }
});

Deno.test("compilePatterns() names the first pattern that matches", () => {
  const match = compilePatterns(["none", "proj", "attn"]);
  strictEqual(match("attn.proj.weight"), "proj");
  strictEqual(match("mlp.weight"), null);
  strictEqual(compilePatterns([])("mlp.weight"), null);
});

Deno.test("compilePatterns() refuses an empty segment", () => {
  for (const pattern of ["", "a..b", ".a", "a."]) {
    throws(() => compilePatterns([pattern]), SyntaxError);
  }
});

Deno.test("compilePatterns() matches a literal pattern if its segments follow one another, and only then", () => {
  const segment = fc.string({ unit: fc.constantFrom("a", "b", "_", "0", "+", "("), minLength: 1 });
  const path = fc.array(segment, { minLength: 1, maxLength: 5 });
  fc.assert(fc.property(path, path, (pattern, name) => {
    const expected = name.some((_, at) =>
      pattern.every((wanted, offset) => name[at + offset] === wanted)
    );
    deepStrictEqual(matches(pattern.join("."), name.join(".")), expected);
  }));
});
