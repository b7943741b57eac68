import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

for (const n of [1, 4, 16, 64]) {
  const title =
    `addRotatedDiagonal() adds a diagonal matrix that is rotated on both sides, of ${n}`;
  testEachLinalg(title, (linalg, subject) => {
    const diagonal = values(7, n, "plain"), stride = n + 3;
    const rotated = subject.inOut(new Float64Array(n * n));
    for (let i = 0; i < n; i++) rotated[i * n + i] = diagonal[i]!;
    linalg.rotateRowsF64(matrix(rotated, n, n), n);
    linalg.rotateColumnsF64(matrix(rotated, n, n), n);
    const h = subject.inOut(new Float64Array(n * stride).fill(5));
    linalg.addRotatedDiagonal(matrix(h, n, n, stride), rotated.subarray(0, n));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < stride; j++) {
        const want = 5 + (j < n ? rotated[i * n + j]! : 0);
        assert(Math.abs(h[i * stride + j]! - want) < 1e-14, `(${i}, ${j})`);
      }
    }
  });
}

Deno.test("addRotatedDiagonal() gives the same on every backend", () => {
  fc.assert(fc.property(seeds, fc.constantFrom(1, 4, 16), fc.nat(3), (seed, n, gap) => {
    const before = Float64Array.from(values(seed, n * (n + gap), "nasty"));
    const row = Float64Array.from(values(seed + 1, n, "nasty"));
    assertSameOnAllLinalg(`seed ${seed}, ${n}`, (linalg, subject) => {
      const h = subject.inOut(before);
      linalg.addRotatedDiagonal(matrix(h, n, n, n + gap), subject.input(row));
      return [h];
    });
  }));
});

testEachLinalg("addRotatedDiagonal() refuses sizes that do not fit", (linalg, subject) => {
  const h = subject.inOut(new Float64Array(64)), row = subject.inOut(new Float64Array(8));
  assert.throws(() => linalg.addRotatedDiagonal(matrix(h, 8, 8), row), /8 is not a power of 4/);
  assert.throws(() => linalg.addRotatedDiagonal(matrix(h, 4, 4), row), /row has 8 elements/);
});
