import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, values } from "../values.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

for (const groupSize of [1, 4, 16, 64, 256]) {
  testEachLinalg(
    `rotateRowsF64() is the rotation of weights for groups of ${groupSize}`,
    (linalg, subject) => {
      const rows = 3, cols = 2 * groupSize, x = values(groupSize, rows * cols, "plain");
      const want = x.slice();
      referenceKernels.rotate(want, groupSize);
      const got = subject.inOut(Float64Array.from(x));
      linalg.rotateRowsF64(matrix(got, rows, cols), groupSize);
      got.forEach((value, i) => assert(Math.abs(value - want[i]!) < 1e-6, `at ${i}`));
    },
  );

  testEachLinalg(
    `rotateColumnsF64() rotates the transpose for groups of ${groupSize}`,
    (linalg, subject) => {
      const rows = 2 * groupSize, cols = 5, x = values(groupSize, rows * cols, "plain");
      const turned = Float64Array.from(x, (_, i) => x[(i % rows) * cols + Math.floor(i / rows)]!);
      const want = subject.inOut(turned), got = subject.inOut(Float64Array.from(x));
      linalg.rotateRowsF64(matrix(want, cols, rows), groupSize);
      linalg.rotateColumnsF64(matrix(got, rows, cols), groupSize);
      got.forEach((value, i) => {
        assert.equal(value, want[(i % cols) * rows + Math.floor(i / cols)], `at ${i}`);
      });
    },
  );
}

Deno.test("rotateRowsF64() and rotateColumnsF64() give the same on every backend", () => {
  const shape = fc.record({ lines: fc.nat(70), groups: fc.nat(3), gap: fc.nat(3) });
  const sizes = fc.constantFrom(1, 4, 16, 64);
  fc.assert(
    fc.property(seeds, shape, sizes, flavors, (seed, { lines, groups, gap }, groupSize, flavor) => {
      const length = groups * groupSize;
      const wide = Float64Array.from(values(seed, lines * (length + gap), flavor));
      const tall = Float64Array.from(values(seed, length * (lines + gap), flavor));
      assertSameOnAllLinalg(`seed ${seed}, ${lines} of ${length}`, (linalg, subject) => {
        const x = subject.inOut(wide), y = subject.inOut(tall);
        linalg.rotateRowsF64(matrix(x, lines, length, length + gap), groupSize);
        linalg.rotateColumnsF64(matrix(y, length, lines, lines + gap), groupSize);
        return [x, y];
      });
    }),
    { numRuns: 60 },
  );
});

testEachLinalg(
  "rotateRowsF64() rejects groups that are no power of 4 or do not divide",
  (linalg) => {
    const x = matrix(new Float64Array(24), 2, 12);
    assert.throws(() => linalg.rotateRowsF64(x, 2), /group size 2 is not a power of 4/);
    assert.throws(() => linalg.rotateRowsF64(x, 16), /group size 16 does not divide 12/);
    assert.throws(() => linalg.rotateColumnsF64(x, 4), /group size 4 does not divide 2/);
  },
);
