import assert from "node:assert/strict";
import { loadInputRow } from "../../../src/run/chunks/load_inputs.ts";

const VALUES = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
const FACTORS = Float32Array.of(2, 0.5, 4);

function row(
  statistic: "activations" | "hessian",
  index: number,
  factors?: Float32Array,
): number[] {
  const out = new Float32Array(3);
  const data = {
    kind: "inline",
    values: VALUES,
    path: "data.json",
    ...(factors === undefined ? {} : { factors }),
  } as const;
  loadInputRow({} as never, { data, statistic }, index, out); // inline data is not read from a file
  return [...out];
}

Deno.test("loadInputRow() multiplies the channels of inputs by their factors", () => {
  assert.deepEqual(row("activations", 1), [4, 5, 6]);
  assert.deepEqual(row("activations", 1, FACTORS), [8, 2.5, 24]);
});

Deno.test("loadInputRow() multiplies second moments by the factors of both channels", () => {
  assert.deepEqual(row("hessian", 2, FACTORS), [7 * 2 * 4, 8 * 0.5 * 4, 9 * 4 * 4]);
});
