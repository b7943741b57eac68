import assert from "node:assert/strict";
import { f8e4m3ToF32 } from "../../src/core/dtype.ts";
import { e2m1Of, e2m1Value, e4m3Of, roundMxfp8, roundNvfp4 } from "../../src/quant/float_grid.ts";
import { normal } from "../kernels/values.ts";

/** The nearest of `values` by brute force; of two as near the even code. */
function nearest(x: number, codes: readonly number[], valueOf: (code: number) => number): number {
  let best = codes[0]!;
  for (const code of codes) {
    const less = Math.abs(valueOf(code) - x) - Math.abs(valueOf(best) - x);
    if (less < 0 || (less === 0 && code % 2 === 0)) best = code;
  }
  return best;
}

const E4M3 = Array.from({ length: 127 }, (_, code) => code);
const E2M1 = Array.from({ length: 8 }, (_, code) => code);

Deno.test("e4m3Of() rounds to the nearest code, ties to even, and saturates", () => {
  const draw = normal(1);
  const middles = E4M3.slice(1).map((code) => (f8e4m3ToF32(code) + f8e4m3ToF32(code - 1)) / 2);
  const values = [...middles, ...E4M3.map(f8e4m3ToF32), 464, 1e30, 0, 1e-45];
  for (let i = 0; i < 2000; i++) values.push(Math.fround(Math.abs(draw()) * 2 ** (i % 18 - 9)));
  for (const x of values) {
    const want = nearest(Math.min(x, 448), E4M3, f8e4m3ToF32);
    assert.equal(e4m3Of(x), want, `${x}`);
    assert.equal(e4m3Of(-x), want | 0x80, `${-x}`);
  }
  assert.equal(e4m3Of(NaN), 0);
});

Deno.test("e2m1Of() rounds to the nearest code, ties to even, and saturates", () => {
  for (let x = 0; x < 8; x += 1 / 64) {
    const want = nearest(Math.min(x, 6), E2M1, e2m1Value);
    assert.equal(e2m1Of(x), want, `${x}`);
    if (x > 0) assert.equal(e2m1Value(e2m1Of(-x)) + 0, -e2m1Value(want) + 0, `${-x}`);
  }
});

Deno.test("roundMxfp8() and roundNvfp4() lose no more with a search than without", () => {
  const draw = normal(2);
  const errors = { mxfp8: [0, 0], nvfp4: [0, 0] };
  for (let i = 0; i < 300; i++) {
    const x = Float32Array.from({ length: 32 }, () => 0.02 * draw());
    const values = new Float32Array(32), codes = new Uint8Array(32);
    const error = (x: Float32Array, found: Float32Array) =>
      x.reduce((sum, value, k) => sum + (value - found[k]!) ** 2, 0);
    [false, true].forEach((search, k) => {
      roundMxfp8(x, { codes, values }, search);
      errors.mxfp8[k]! += error(x, values);
      const half = x.subarray(0, 16), own = values.subarray(0, 16);
      roundNvfp4(half, 0.08 / 2688, { codes: codes.subarray(0, 16), values: own }, search);
      errors.nvfp4[k]! += error(half, own);
    });
  }
  assert(errors.mxfp8[1]! <= errors.mxfp8[0]!);
  assert(errors.nvfp4[1]! < 0.97 * errors.nvfp4[0]!, `${errors.nvfp4}`);
});
