import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { testEachLinalg } from "./linalg_subject.ts";

testEachLinalg("copyRows() copies rows and nothing between them", (linalg, subject) => {
  const sizes = fc.record({ rows: fc.nat(5), cols: fc.nat(9), gap: fc.nat(3), gapTo: fc.nat(3) });
  fc.assert(
    fc.property(sizes, ({ rows, cols, gap, gapTo }) => {
      const x = Float64Array.from({ length: rows * (cols + gap) }, (_, i) => i / 3);
      const to = subject.inOut(new Float64Array(rows * (cols + gapTo)).fill(-1));
      linalg.copyRows(
        matrix(to, rows, cols, cols + gapTo),
        matrix(subject.input(x), rows, cols, cols + gap),
      );
      to.forEach((value, at) => {
        const i = Math.floor(at / (cols + gapTo)), j = at % (cols + gapTo);
        assert.equal(value, j < cols ? x[i * (cols + gap) + j] : -1);
      });
    }),
    { numRuns: 50 },
  );
});

testEachLinalg("copyRows() refuses rows of other sizes", (linalg, subject) => {
  const x = subject.inOut(new Float64Array(6));
  assert.throws(
    () => linalg.copyRows(matrix(x, 2, 3), matrix(x, 3, 2)),
    /Cannot run copyRows: from is 3 x 2, needs 2 x 3/,
  );
});
