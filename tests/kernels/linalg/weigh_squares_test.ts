import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

testEachLinalg("weighSquares() sums up weighted squares of rows", (linalg, subject) => {
  const x = matrix(subject.input(Float32Array.of(1, 2, 99, -3, 4, 99, 5, 6, 99)), 3, 2, 3);
  const out = subject.inOut(new Float64Array(3));
  linalg.weighSquares(out, x, null);
  assert.deepEqual([...out], [5, 25, 61]);
  linalg.weighSquares(out, x, subject.input(Float64Array.of(1, 10)));
  assert.deepEqual([...out], [401, 1609, 3625]);
});

Deno.test("weighSquares() gives the same on every backend for any values", () => {
  const shape = fc.record({ rows: fc.nat(70), cols: fc.nat(9), gap: fc.nat(3) });
  fc.assert(fc.property(seeds, shape, flavors, (seed, { rows, cols, gap }, flavor) => {
    const x = values(seed, rows * (cols + gap), flavor);
    const weights = Float64Array.from(values(seed + 1, cols, "plain"), (weight) => weight / 3);
    for (const isWeighed of [false, true]) {
      assertSameOnAllLinalg(`seed ${seed}, ${rows} x ${cols}, ${isWeighed}`, (linalg, subject) => {
        const out = subject.inOut(new Float64Array(rows).fill(99));
        const own = isWeighed ? subject.input(weights) : null;
        linalg.weighSquares(out, matrix(subject.input(x), rows, cols, cols + gap), own);
        return [out];
      });
    }
  }));
});

testEachLinalg("weighSquares() refuses sizes that do not fit", (linalg, subject) => {
  const x = matrix(subject.inOut(new Float32Array(6)), 2, 3);
  const out = subject.inOut(new Float64Array(3));
  assert.throws(() => linalg.weighSquares(out, x, null), /out has 3 elements, needs 2/);
  assert.throws(
    () => linalg.weighSquares(out.subarray(1), x, out.subarray(1)),
    /Cannot run weighSquares: weights has 2 elements, needs 3/,
  );
});
