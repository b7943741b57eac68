import assert from "node:assert/strict";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { UsageError } from "../../src/core/errors.ts";
import {
  compileLayerPattern,
  MAX_PATTERN_LENGTH,
  patternOfName,
} from "../../src/config/layer_pattern.ts";
import { patternLiterals } from "../../src/config/pattern_literals.ts";

const PLACE = { place: "--custom-layers" };
const WHOLE = { fullmatch: true };

Deno.test("patternLiterals() measures, requires and spells out what a pattern says literally", () => {
  const cases: [string, number, string[][], string | null][] = [
    ["blocks.0.attn", 13, [["blocks"], ["0"], ["attn"]], "blocks.0.attn"],
    ["blocks\\.0\\.attn", 13, [["blocks.0.attn"]], "blocks.0.attn"],
    ["^img_in$", 6, [["img_in"]], "img_in"],
    [".*attention.*", 9, [["attention"]], null],
    ["blocks\\.\\d+\\.qkv", 7, [["blocks."], [".qkv"]], null],
    ["(attn|feed_forward)", 4, [["attn", "feed_forward"]], null],
    ["b\\.(1|23)\\.q", 2, [["b.1.q", "b.23.q"]], null],
    ["a(b|c+)d", 1, [["a"], ["b", "c"], ["d"]], null],
    ["a(b|c*)d", 1, [["a"], ["d"]], null],
    ["a(bcd)e", 3, [["abcde"]], "abcde"],
    ["a(bcd)?e", 1, [["a"], ["e"]], null],
    ["a(b|)c", 1, [["abc", "ac"]], null],
    ["ab+c", 2, [["ab"], ["c"]], null],
    ["ab*cde", 3, [["a"], ["cde"]], null],
    ["x{0,2}yz", 2, [["yz"]], null],
    ["q{2}r", 1, [["q"], ["r"]], null],
    ["(ab){2}", 2, [["ab"]], null],
    ["[a-z]lin]", 4, [["lin]"]], null],
    ["[]x]ab", 2, [["ab"]], null],
    ["[^[:alpha:]]ab", 2, [["ab"]], null],
    ["\\x41bc\\p{Lu}d", 2, [["bc"], ["d"]], null],
    ["a\u{1f600}?", 1, [["a"]], null],
    ["(?i)Attn", 4, [], null],
    ["(?:a|b)", 1, [["a", "b"]], null],
    ["(?P<side>img)_mlp", 4, [["img_mlp"]], "img_mlp"],
    ["\\Qa.b\\E", 0, [], null],
    ["()", 0, [], ""],
  ];
  for (const [pattern, longest, required, exact] of cases) {
    assert.deepEqual(patternLiterals(pattern), { longest, required, exact }, pattern);
  }
});

Deno.test("patternLiterals() requires nothing that a match could do without", () => {
  const piece = fc.constantFrom(
    "a",
    "b",
    "ab",
    ".",
    "a*",
    "b+",
    "a?",
    "(ab)",
    "(a|b)",
    "(a|bb*|.)",
    "(a|b|)",
    "(?:a(b|\\.)){2}",
    "\\b",
    "(ab)?",
    "[ab]",
    "\\.",
    "a{2}",
    "^",
    "$",
    "(?i)",
    "b{0,1}",
    "(?:b+a)",
    "\\w",
    "|",
    "\\x61",
  );
  const name = fc.stringMatching(/^[ab.AB]{0,8}$/);
  fc.assert(
    fc.property(fc.array(piece, { minLength: 1, maxLength: 6 }), name, (pieces, layer) => {
      const source = pieces.join("");
      fc.pre(!/[*+?}^$|(]\s*[*+?{]/.test(source)); // doubled quantifiers do not compile
      const pattern = compileLayerPattern(source, PLACE);
      const expression = RE2JS.compile(source);
      const matches = expression.test(layer) || expression.test(`${layer}.weight`);
      assert.equal(pattern.test(layer), matches, source);
      const isPossible = pattern.required.every((texts) =>
        texts.some((text) => `${layer}.weight`.includes(text))
      );
      if (matches) assert.ok(isPossible, `${source} requires ${JSON.stringify(pattern.required)}`);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("compileLayerPattern() finds patterns in names, or matches whole names", () => {
  const find = compileLayerPattern("blocks.1", PLACE);
  assert.deepEqual(["blocks.1", "x.blocks.10.q", "block.1"].map((n) => find.test(n)), [
    true,
    true,
    false,
  ]);
  const whole = compileLayerPattern("blocks.1", PLACE);
  assert.deepEqual(["blocks.1", "blocks.10"].map((n) => whole.test(n, WHOLE)), [true, false]);
  const either = compileLayerPattern("a|ab", PLACE);
  assert.deepEqual(["a", "ab", "b"].map((n) => either.test(n, WHOLE)), [true, true, false]);
  const weight = compileLayerPattern("qkv\\.weight$", PLACE);
  assert.deepEqual(["attn.qkv", "attn.qkv.lin"].map((n) => weight.test(n)), [true, false]);
});

Deno.test("compileLayerPattern() names a pattern that it refuses, and why", () => {
  const cases: [string, RegExp][] = [
    ["", /pattern "" of --custom-layers: it is empty/],
    ["(a", /pattern "\(a" of --custom-layers: missing closing \)/],
    ["*a", /missing argument to repetition operator/],
    ["(?=a)b", /lookaround and backreferences are not supported/],
    ["(a)\\1", /lookaround and backreferences are not supported/],
    ["((a{900}){900})", /invalid repeat count/],
    ["x".repeat(MAX_PATTERN_LENGTH + 1), /it has 10001 characters, at most 10000/],
  ];
  for (const [source, message] of cases) {
    assert.throws(() => compileLayerPattern(source, PLACE), (error: unknown) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.message, message);
      return true;
    });
  }
});

Deno.test("compileLayerPattern() is not hung by patterns that make backtracking explode", () => {
  const name = `${"a".repeat(20_000)}!`;
  for (const source of ["(a+)+$", "(a|a)*$", "(.*)*b", "(a|aa)+$", "([a-z]+)*\\d"]) {
    assert.equal(compileLayerPattern(source, PLACE).test(name, WHOLE), false);
  }
});

Deno.test("patternOfName() makes a pattern that spells out the name", () => {
  fc.assert(fc.property(fc.string({ minLength: 1, maxLength: 20 }), (name) => {
    const pattern = compileLayerPattern(patternOfName(name), PLACE);
    assert.equal(pattern.exact, name);
    if (!name.includes("\n")) assert.ok(pattern.test(name, WHOLE));
  }));
});
