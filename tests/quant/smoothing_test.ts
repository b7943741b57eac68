import assert from "node:assert/strict";
import { mostOf, smoothingFactors } from "../../src/quant/smoothing.ts";

const X = Float32Array.of(1, 16, 4, 0, 2), W = Float32Array.of(1, 1, 4, 1, 0);

Deno.test("smoothingFactors() moves all of the inputs' differences at alpha 1, all of the weights' at 0", () => {
  const exact = (alpha: number) => smoothingFactors(X, W, { alpha, powersOfTwo: false });
  const one = exact(1);
  assert.equal(one[1]! / one[0]!, 16);
  assert.equal(one[2]! / one[0]!, 4);
  const none = exact(0);
  assert.equal(none[1]! / none[0]!, 1);
  assert.equal(none[2]! / none[0]!, 0.25);
  const half = exact(0.5);
  assert.equal(half[1]! / half[0]!, 4);
  assert.equal(half[2]! / half[0]!, 1);
});

Deno.test("smoothingFactors() leaves channels without inputs or weights alone, and has the mean 1", () => {
  const factors = smoothingFactors(X, W, { alpha: 0.7, powersOfTwo: false });
  assert.deepEqual([factors[3], factors[4]], [1, 1]);
  const product = [...factors.subarray(0, 3)].reduce((all, s) => all * s, 1);
  assert(Math.abs(product - 1) < 1e-6, `${product}`);
});

Deno.test("smoothingFactors() gives powers of two if asked", () => {
  const x = Float32Array.from({ length: 50 }, (_, k) => 0.01 + (k * 37 % 50));
  const factors = smoothingFactors(x, x.map((v) => 1 / (v + 3)), { alpha: 0.5, powersOfTwo: true });
  for (const s of factors) assert(Number.isInteger(Math.log2(s)), `${s}`);
  assert(new Set(factors).size > 2);
});

Deno.test("mostOf() is the largest of each channel", () => {
  assert.deepEqual(mostOf([Float32Array.of(1, 5), Float32Array.of(2, 3)]), Float32Array.of(2, 5));
});
