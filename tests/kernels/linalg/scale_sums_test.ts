import assert from "node:assert/strict";
import fc from "fast-check";
import { flavors, seeds, uniform, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

testEachLinalg("scaleSums() multiplies by the scales of rows and columns", (linalg, subject) => {
  const out = subject.inOut(Float32Array.of(1, 1, 1, 1)), sums = Int32Array.of(1, 2, -3, 4);
  const own = subject.input(sums);
  const rowScales = subject.input(Float32Array.of(2, 10));
  const colScales = subject.input(Float32Array.of(0.5, 3));
  linalg.scaleSums(out, own, { rowScales, colScales }, false);
  assert.deepEqual([...out], [1, 12, -15, 120]);
  linalg.scaleSums(out, own, { rowScales, colScales }, true);
  assert.deepEqual([...out], [2, 24, -30, 240]);
});

Deno.test("scaleSums() gives the same on every backend for any values", () => {
  const sizes = fc.record({ rows: fc.nat(70), cols: fc.nat(11) });
  fc.assert(fc.property(seeds, sizes, flavors, (seed, { rows, cols }, flavor) => {
    const next = uniform(seed);
    const sums = new Int32Array(rows * cols).map(() => (next() - 0.5) * 2 ** 32);
    const before = values(seed + 1, rows * cols, flavor);
    for (const add of [false, true]) {
      assertSameOnAllLinalg(`seed ${seed}, ${rows} x ${cols}, ${add}`, (linalg, subject) => {
        const out = subject.inOut(before);
        const rowScales = subject.input(values(seed + 2, rows, flavor));
        const colScales = subject.input(values(seed + 3, cols, flavor));
        linalg.scaleSums(out, subject.input(sums), { rowScales, colScales }, add);
        return [out];
      });
    }
  }));
});

testEachLinalg("scaleSums() refuses sums without scales", (linalg, subject) => {
  const out = subject.inOut(new Float32Array(6)), sums = subject.inOut(new Int32Array(6));
  const scales = { rowScales: out.subarray(2), colScales: out.subarray(5) };
  assert.throws(() => linalg.scaleSums(out, sums, scales, false), /out has 6 elements, needs 4/);
});
