import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import {
  dequantized,
  errorSums,
  outputErrors,
  rotated,
  rotationGroup,
  roundToNearest,
  sqnrDb,
  syntheticActivations,
} from "../../scripts/support/plain_math.ts";

/** The matrix written out by its definition. */
function entry(i: number, j: number, group: number): number {
  let value = 1;
  for (let stride = 1; stride < group; stride *= 4) {
    const digits = Math.floor(i / stride) % 4 + Math.floor(j / stride) % 4;
    value *= digits === 3 ? -0.5 : 0.5;
  }
  return value;
}

Deno.test("rotated() multiplies by the regular Hadamard matrix", () => {
  for (const group of [16, 64]) {
    const x = Float32Array.from({ length: 2 * group }, (_, i) => (i * 37 % 101) - 50);
    const want = x.map((_, i) => {
      const start = i - i % group;
      let sum = 0;
      for (let j = 0; j < group; j++) sum += entry(i % group, j, group) * x[start + j]!;
      return sum;
    });
    deepStrictEqual(rotated(x, group), want);
    deepStrictEqual(rotated(want, group), x);
  }
});

Deno.test("rotationGroup() is the largest of 256, 64, 16 that divides", () => {
  deepStrictEqual([512, 192, 48, 1000].map(rotationGroup), [256, 64, 16, 0]);
});

Deno.test("roundToNearest() rounds ties to even on the grid of the largest value of a row", () => {
  const values = Float32Array.of(127, 0.5, 1.5, -2.5, 0, 0, 0, 0);
  const { codes, scales } = roundToNearest({ rows: 2, cols: 4, values }, 0);
  deepStrictEqual([...codes], [127, 0, 2, -2, 0, 0, 0, 0]);
  deepStrictEqual([...scales], [1, Math.fround(1e-30)]);
});

Deno.test("sqnrDb() of an error of a tenth is 20 dB", () => {
  const sums = errorSums(Float32Array.of(3, 4), Float32Array.of(3, 4.5));
  strictEqual(Math.round(sqnrDb(sums) * 1e6) / 1e6, 20);
});

Deno.test("outputErrors() is as small as the int8 grid if the weight is on it", () => {
  const activations = syntheticActivations(8, 64);
  const values = Float32Array.from({ length: 4 * 64 }, (_, i) => (i * 31 % 255) - 127);
  for (let r = 0; r < 4; r++) values[r * 64] = 127;
  const weight = { rows: 4, cols: 64, values };
  const codes = roundToNearest(weight, 0);
  deepStrictEqual(dequantized(codes), values);
  const halved = { ...codes, scales: codes.scales.map((scale) => scale / 2) };
  const [error, half] = outputErrors(activations, weight, [codes, halved]) as [number, number];
  ok(error > 0 && error < 0.1, `${error}`);
  ok(Math.abs(half - 0.5) < 0.01, `${half}`);
});
