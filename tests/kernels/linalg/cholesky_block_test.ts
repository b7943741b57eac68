import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

/** A·Aᵀ + I of random A, `gap` elements beside each row. */
function positive(seed: number, n: number, gap: number): Float64Array {
  const a = values(seed, n * n, "plain").map((x) => x * 20);
  const out = new Float64Array(n * (n + gap)).fill(7);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = 0; k < n; k++) sum += a[i * n + k]! * a[j * n + k]!;
      out[i * (n + gap) + j] = sum;
    }
  }
  return out;
}

testEachLinalg("choleskyBlock() gives a factor worked out by hand", (linalg, subject) => {
  const a = subject.inOut(Float64Array.of(4, -1, -1, 2, 10, -1, 6, 9, 26));
  assert.equal(linalg.choleskyBlock(matrix(a, 3, 3), 0), -1);
  assert.deepEqual([...a], [2, -1, -1, 1, 3, -1, 3, 2, Math.sqrt(13)]);
});

testEachLinalg(
  "choleskyBlock() returns the first pivot that is not above the least",
  (linalg, subject) => {
    const flat = subject.inOut(Float64Array.of(4, 0, 2, 1));
    assert.equal(linalg.choleskyBlock(matrix(flat, 2, 2), 0), 1);
    const near = subject.inOut(Float64Array.of(4, 0, 2, 1.5));
    assert.equal(linalg.choleskyBlock(matrix(near, 2, 2), 0.5), 1);
    assert.equal(linalg.choleskyBlock(matrix(subject.inOut(Float64Array.of(NaN)), 1, 1), 0), 0);
    assert.equal(
      linalg.choleskyBlock(matrix(subject.inOut(Float64Array.of(Infinity)), 1, 1), 0),
      0,
    );
    assert.equal(linalg.choleskyBlock(matrix(subject.inOut(Float64Array.of(-1)), 1, 1), 0), 0);
  },
);

Deno.test("choleskyBlock() and solveBlock() give the same on every backend", () => {
  const size = fc.integer({ min: 0, max: 20 });
  fc.assert(fc.property(seeds, size, fc.nat(13), fc.nat(3), (seed, n, rows, gap) => {
    const a = positive(seed, n, gap),
      b = Float64Array.from(values(seed, rows * (n + gap), "plain"));
    assertSameOnAllLinalg(`seed ${seed}, ${n}, ${rows} rows`, (linalg, subject) => {
      const l = subject.inOut(a), x = subject.inOut(b);
      assert.equal(linalg.choleskyBlock(matrix(l, n, n, n + gap), 0), -1);
      linalg.solveBlock(matrix(x, rows, n, n + gap), matrix(l, n, n, n + gap));
      return [l, x];
    });
  }));
});

testEachLinalg("solveBlock() solves X·Lᵀ = B", (linalg, subject) => {
  const l = subject.input(Float64Array.of(2, 99, 99, 1, 3, 99, 3, 2, 4));
  const x = subject.inOut(Float64Array.of(2, 7, 19, 4, 2, 6, -2, 2, 1, 0, 3, 2, 0, 0, 4));
  linalg.solveBlock(matrix(x, 5, 3), matrix(l, 3, 3));
  assert.deepEqual([...x], [1, 2, 3, 2, 0, 0, -1, 1, 0.5, 0, 1, 0, 0, 0, 1]);
});
