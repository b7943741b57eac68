import { strictEqual } from "node:assert/strict";
import { nearest, nearestOr, nearMiss } from "../../src/core/nearest.ts";

const WORDS = ["--force", "--simple", "--scaling_mode", "dequantize", "inspect", "off", "--report"];

Deno.test("nearMiss() finds slips and beginnings, and nothing that is merely least far", () => {
  const cases: readonly (readonly [string, string | null])[] = [
    ["--simpel", "--simple"],
    ["--SIMPLE", "--simple"],
    ["--scaling-mode", "--scaling_mode"],
    ["--scaling", "--scaling_mode"],
    ["--scalingmode", "--scaling_mode"],
    ["inspekt", "inspect"],
    ["of", "off"],
    ["--nope", null],
    ["quantize", null],
    ["x", null],
    ["", null],
  ];
  for (const [typed, near] of cases) strictEqual(nearMiss(typed, WORDS), near, typed);
  strictEqual(nearMiss("a", []), null);
});

Deno.test("nearestOr() says what to do instead if nothing is near", () => {
  strictEqual(nearestOr("see --help", "--forse", WORDS), "the nearest is --force");
  strictEqual(nearestOr("see --help", "--nope", WORDS), "see --help");
});

Deno.test("nearest() gives an entry however far it is", () => {
  strictEqual(nearest("zzz", ["blocks.0.attn", "blocks.0.mlp"]), "blocks.0.mlp");
});
