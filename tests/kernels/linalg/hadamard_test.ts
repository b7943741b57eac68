import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "../subnormals.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { flavors, seeds, values } from "../values.ts";
import {
  assertSameOnAllDevices,
  assertSameOnAllLinalg,
  testEachDevice,
  testEachLinalg,
} from "./linalg_subject.ts";

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

  testEachDevice(
    `hadamardColumns() transforms the transpose, of ${length} rows`,
    async (linalg, subject) => {
      const cols = 7, x = values(length, length * cols, "plain");
      const turned = x.map((_, i) => x[(i % length) * cols + Math.floor(i / length)]!);
      const want = subject.inOut(turned), got = subject.inOut(x);
      await linalg.hadamardRows(matrix(want, cols, length));
      await linalg.hadamardColumns(matrix(got, length, cols));
      got.forEach((value, i) => {
        assert.equal(value, want[(i % cols) * length + Math.floor(i / cols)], `at ${i}`);
      });
    },
  );
}

const shapes = fc.record({ lines: fc.nat(40), log: fc.nat(8), gap: fc.nat(3) });

Deno.test("hadamardRows() and hadamardColumns() give the same on every device", async () => {
  await fc.assert(
    fc.asyncProperty(seeds, shapes, flavors, async (seed, { lines, log, gap }, flavor) => {
      const length = 2 ** log;
      const wide = await asKept(values(seed, lines * (length + gap), flavor));
      const tall = await asKept(values(seed, length * (lines + gap), flavor));
      await assertSameOnAllDevices(
        `seed ${seed}, ${lines} of ${length}`,
        async (linalg, subject) => {
          const x = subject.inOut(wide), y = subject.inOut(tall);
          await linalg.hadamardRows(matrix(x, lines, length, length + gap));
          await linalg.hadamardColumns(matrix(y, length, lines, lines + gap));
          return [x, y];
        },
      );
    }),
    { numRuns: 100 },
  );
});

Deno.test("hadamardRows() and hadamardColumns() give the same on every device for long lines", async () => {
  for (const log of [9, 10, 11, 13, 17]) {
    const length = 2 ** log, x = values(log, 3 * length, "plain");
    await assertSameOnAllDevices(`${length}`, async (linalg, subject) => {
      const wide = subject.inOut(x), tall = subject.inOut(x);
      await linalg.hadamardRows(matrix(wide, 3, length));
      await linalg.hadamardColumns(matrix(tall, length, 3));
      return [wide, tall];
    });
  }
});

Deno.test("hadamardRows() and hadamardColumns() give the same on every backend in f64", () => {
  fc.assert(
    fc.property(seeds, shapes, flavors, (seed, { lines, log, gap }, flavor) => {
      const length = 2 ** log;
      const wide = Float64Array.from(values(seed, lines * (length + gap), flavor));
      const tall = Float64Array.from(values(seed, length * (lines + gap), flavor));
      assertSameOnAllLinalg(`seed ${seed}, ${lines} of ${length}`, (linalg, subject) => {
        const x = subject.inOut(wide), y = subject.inOut(tall);
        linalg.hadamardRows(matrix(x, lines, length, length + gap));
        linalg.hadamardColumns(matrix(y, length, lines, lines + gap));
        return [x, y];
      });
    }),
    { numRuns: 50 },
  );
});

testEachDevice("hadamardRows() refuses lengths that are no power of 2", async (linalg) => {
  const message = /a length of 12 is not a power of 2/;
  const x = matrix(new Float32Array(24), 2, 12), tall = matrix(new Float32Array(24), 12, 2);
  await assert.rejects(async () => await linalg.hadamardRows(x), message);
  await assert.rejects(async () => await linalg.hadamardColumns(tall), message);
});
