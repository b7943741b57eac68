import assert from "node:assert/strict";
import { type InputMoments, meanShrinkage } from "../../src/quant/bias_correction.ts";
import { uniform } from "../kernels/values.ts";

/** Moments of inputs around `mean`, uniform with deviation 1. */
function moments(rows: number, channels: number, mean: number): InputMoments {
  const next = uniform(rows + channels);
  const sums = new Float64Array(channels), squares = new Float64Array(channels);
  for (let t = 0; t < rows; t++) {
    for (let k = 0; k < channels; k++) {
      const x = mean + Math.sqrt(12) * (next() - 0.5);
      sums[k]! += x;
      squares[k]! += x * x;
    }
  }
  return { rows, sums, squares };
}

Deno.test("meanShrinkage() takes nearly nothing of a mean that is noise, nearly all of a real one", () => {
  const noise = meanShrinkage(moments(64, 512, 0));
  assert.ok(noise < 0.2, String(noise));
  assert.ok(meanShrinkage(moments(64, 512, 1)) > 0.95);
  const little = meanShrinkage(moments(64, 512, 0.125)); // as large as its noise
  assert.ok(little > 0.3 && little < 0.7, String(little));
});

Deno.test("meanShrinkage() takes nothing of a single input, all of constant ones, nothing of zeros", () => {
  assert.equal(
    meanShrinkage({ rows: 1, sums: Float64Array.of(3), squares: Float64Array.of(9) }),
    0,
  );
  assert.equal(
    meanShrinkage({ rows: 2, sums: Float64Array.of(6), squares: Float64Array.of(18) }),
    1,
  );
  assert.equal(
    meanShrinkage({ rows: 5, sums: Float64Array.of(0), squares: Float64Array.of(0) }),
    0,
  );
});
