import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

/** Element of the Sylvester Hadamard matrix: the parity of the bits that both indices have. */
function sylvester(i: number, j: number): number {
  let parity = 1;
  for (let common = i & j; common > 0; common &= common - 1) parity = -parity;
  return parity;
}

for (const length of [1, 2, 4, 8, 32, 128]) {
  testEachLinalg(
    `hadamardRows() is a product with the Sylvester matrix of ${length}`,
    (linalg, subject) => {
      const rows = 3, x = Float64Array.from(values(length, rows * length, "plain"));
      const got = subject.inOut(x);
      linalg.hadamardRows(matrix(got, rows, length));
      for (let r = 0; r < rows; r++) {
        for (let j = 0; j < length; j++) {
          let sum = 0;
          for (let i = 0; i < length; i++) sum += x[r * length + i]! * sylvester(i, j);
          const error = Math.abs(got[r * length + j]! - sum / Math.sqrt(length));
          assert(error < 1e-12, `at ${r}, ${j}`);
        }
      }
    },
  );

  testEachLinalg(
    `hadamardColumns() transforms the transpose, of ${length} rows`,
    (linalg, subject) => {
      const cols = 7, x = values(length, length * cols, "plain");
      const turned = x.map((_, i) => x[(i % length) * cols + Math.floor(i / length)]!);
      const want = subject.inOut(turned), got = subject.inOut(x);
      linalg.hadamardRows(matrix(want, cols, length));
      linalg.hadamardColumns(matrix(got, length, cols));
      got.forEach((value, i) => {
        assert.equal(value, want[(i % cols) * length + Math.floor(i / cols)], `at ${i}`);
      });
    },
  );
}

Deno.test("hadamardRows() and hadamardColumns() give the same on every backend", () => {
  const shape = fc.record({
    lines: fc.nat(40),
    log: fc.nat(8),
    gap: fc.nat(3),
    double: fc.boolean(),
  });
  fc.assert(
    fc.property(seeds, shape, flavors, (seed, { lines, log, gap, double }, flavor) => {
      const length = 2 ** log;
      const of = (count: number) => {
        const x = values(seed, count, flavor);
        return double ? Float64Array.from(x) : x;
      };
      const wide = of(lines * (length + gap)), tall = of(length * (lines + gap));
      assertSameOnAllLinalg(`seed ${seed}, ${lines} of ${length}`, (linalg, subject) => {
        const x = subject.inOut(wide), y = subject.inOut(tall);
        linalg.hadamardRows(matrix(x, lines, length, length + gap));
        linalg.hadamardColumns(matrix(y, length, lines, lines + gap));
        return [x, y];
      });
    }),
    { numRuns: 100 },
  );
});

testEachLinalg("hadamardRows() refuses lengths that are no power of 2", (linalg) => {
  const x = matrix(new Float32Array(24), 2, 12);
  assert.throws(() => linalg.hadamardRows(x), /a length of 12 is not a power of 2/);
  const tall = matrix(new Float32Array(24), 12, 2);
  assert.throws(() => linalg.hadamardColumns(tall), /a length of 12 is not a power of 2/);
});
