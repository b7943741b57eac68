import assert from "node:assert/strict";
import type { Problem } from "../../src/formats/problem.ts";
import { layerErrors } from "../../src/run/layer_statistics.ts";
import type { SourceReport } from "../../src/verify/verify_source.ts";
import { errorsJson } from "../../src/cli/errors_json.ts";
import { type Verified, verifiedJson, verifiedLines } from "../../src/cli/verify_report.ts";

/** Of 100 values with a squared error of 1 %, in the order of STATS. */
const ERRORS = layerErrors(Float64Array.of(0.01, 100, 100, 99.99, 0.5, 100));

function problem(layer: string, detail = "its format is odd"): Problem {
  return {
    layer,
    rule: "format-unknown",
    effect: "KeyError at load",
    severity: "error",
    detail,
    hint: "others read it",
  };
}

function verified(problems: Problem[], comparison: Partial<SourceReport> | null = null): Verified {
  const none = { matches: true, problems: [], layers: [], overall: null };
  const rest = { cast: [], changed: [], identical: 3 };
  return {
    path: "m.safetensors",
    report: {
      loads: problems.length === 0,
      problems,
      quantized: { int8_tensorwise: 2 },
      tensors: 9,
      checkedBytes: 1234,
    },
    comparison: comparison === null ? null : { ...none, ...rest, ...comparison },
  };
}

const text = (value: Verified) => verifiedLines(value, { thresholdDb: 30 }).join("\n");

Deno.test("verifiedLines() says in its first line whether the file loads", () => {
  assert.match(text(verified([])), /^m\.safetensors: loads in stock ComfyUI\n/);
  assert.match(text(verified([problem("a")])), /^m\.safetensors: does NOT work in stock ComfyUI\n/);
});

Deno.test("verifiedLines() reports layers with the same problem together", () => {
  const lines = text(verified(["a", "b", "c", "d", "e", "f"].map((layer) => problem(layer))));
  assert.equal(lines.match(/error: format-unknown/g)?.length, 1);
  assert.match(lines, /layers {2}a, b, c, d and 2 more\n/);
  assert.match(lines, /effect {2}KeyError at load\n {4}note {4}others read it/);
});

Deno.test("verifiedLines() lets no control character of a file reach the terminal", () => {
  const lines = text(verified([problem("a\u001b[2J", "odd \u0007")]));
  assert.doesNotMatch(lines.replaceAll("\n", ""), /\p{Cc}/u);
  assert.match(lines, /a\?\[2J/);
});

Deno.test("verifiedJson() has the documented keys", () => {
  const plain = verifiedJson(verified([problem("a")]));
  assert.equal(plain["loads"], false);
  const [first] = plain["problems"] as Record<string, unknown>[];
  assert.deepEqual([first!["layer"], first!["rule"], first!["effect"]], [
    "a",
    "format-unknown",
    "KeyError at load",
  ]);
  assert(!("layers" in plain) && !("overall" in plain));
  const layer = { name: "a.weight", shape: [2, 2], errors: ERRORS, stats: new Float64Array(6) };
  const compared = verifiedJson(verified([], {
    layers: [layer],
    overall: ERRORS,
    matches: false,
    problems: [{ ...problem("b"), rule: "kept-differs" }],
  }));
  assert.deepEqual([compared["loads"], compared["matches_source"]], [true, false]);
  assert.deepEqual(compared["layers"], [{
    name: "a.weight",
    shape: [2, 2],
    errors: errorsJson(ERRORS),
  }]);
  assert.deepEqual(compared["overall"], errorsJson(ERRORS));
  assert.equal((compared["problems"] as unknown[]).length, 1);
});
