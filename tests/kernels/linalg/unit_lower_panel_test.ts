import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

testEachLinalg("unitLowerPanel() divides columns by their diagonal elements", (linalg, subject) => {
  const l = subject.input(Float64Array.of(2, 99, 99, 1, 4, 99, 3, 2, 8, 6, 4, 2));
  const out = subject.output(new Float32Array(), 12);
  linalg.unitLowerPanel(
    matrix(out, 4, 3),
    matrix(l, 4, 3),
    subject.input(Float64Array.of(2, 4, 8)),
  );
  assert.deepEqual([...out], [1, 0, 0, 0.5, 1, 0, 1.5, 0.5, 1, 3, 1, 0.25]);
});

testEachLinalg("divideColumns() divides columns by numbers of their own", (linalg, subject) => {
  const l = subject.input(Float64Array.of(2, 9, 3, 7, 4, 8)),
    out = subject.inOut(new Float32Array(4));
  const divisors = subject.input(Float64Array.of(2, 4));
  linalg.divideColumns(matrix(out, 2, 2), matrix(l, 2, 2, 3), divisors);
  assert.deepEqual([...out], [1, 2.25, 3.5, 1]);
  assert.throws(
    () => linalg.divideColumns(matrix(out, 2, 2), matrix(l, 2, 2), divisors.subarray(1)),
    /Cannot run divideColumns: diagonal has 1 elements, needs 2/,
  );
});

for (const kernel of ["unitLowerPanel", "divideColumns"] as const) {
  // Rows are some from the diagonal down, at least as many as columns, or any.
  const heights = kernel === "unitLowerPanel" ? fc.nat(7) : fc.nat(70);
  Deno.test(`${kernel}() gives the same on every backend for any values`, () => {
    const shape = fc.record({
      cols: fc.nat(9),
      height: heights,
      gap: fc.nat(3),
      gapOut: fc.nat(3),
    });
    fc.assert(fc.property(seeds, shape, flavors, (seed, { cols, height, gap, gapOut }, flavor) => {
      const rows = kernel === "unitLowerPanel" ? cols + height : height;
      const l = Float64Array.from(values(seed, rows * (cols + gap), flavor), (x) => x * 1.000001);
      const diagonal = Float64Array.from(values(seed + 1, cols, flavor));
      const before = values(seed + 2, rows * (cols + gapOut), "plain");
      assertSameOnAllLinalg(`seed ${seed}, ${rows} x ${cols}`, (linalg, subject) => {
        const out = subject.inOut(before);
        linalg[kernel](
          matrix(out, rows, cols, cols + gapOut),
          matrix(subject.input(l), rows, cols, cols + gap),
          subject.input(diagonal),
        );
        return [out];
      });
    }));
  });
}
