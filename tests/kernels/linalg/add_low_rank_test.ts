import assert from "node:assert/strict";
import fc from "fast-check";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

testEachLinalg("addLowRank() adds a product worked out by hand", (linalg, subject) => {
  const x = subject.inOut(Float32Array.of(1, 2, 3, 4));
  const b = subject.input(Float32Array.of(1, 2, 3, 4)),
    a = subject.input(Float32Array.of(5, 6, 7, 8));
  linalg.addLowRank(x, b, a, { rows: 2, cols: 2, rank: 2 });
  assert.deepEqual([...x], [1 + 19, 2 + 22, 3 + 43, 4 + 50]);
});

testEachLinalg("addLowRank() rounds the change, not the weight, per term", (linalg, subject) => {
  const rank = 64;
  const x = subject.inOut(Float32Array.of(1)), small = new Float32Array(rank).fill(2 ** -14);
  linalg.addLowRank(x, subject.input(small), subject.input(small), { rows: 1, cols: 1, rank });
  assert.equal(x[0], 1 + 2 ** -22);
});

Deno.test("addLowRank() gives the same on every backend for any shapes and values", () => {
  const shape = fc.record({
    rows: fc.nat(13),
    cols: fc.integer({ min: 1, max: 150 }),
    rank: fc.nat(20),
  });
  fc.assert(
    fc.property(seeds, shape, flavors, (seed, shape, flavor) => {
      const { rows, cols, rank } = shape;
      assertSameOnAllLinalg(`seed ${seed}, ${JSON.stringify(shape)}`, (linalg, subject) => {
        const x = subject.inOut(values(seed, rows * cols, flavor));
        const b = subject.input(values(seed + 1, rows * rank, "plain"));
        const a = subject.input(values(seed + 2, rank * cols, flavor));
        linalg.addLowRank(x, b, a, shape);
        return [x];
      });
    }),
    { numRuns: 100 },
  );
});

testEachLinalg("addLowRank() refuses sizes that do not fit", (linalg) => {
  const of = (length: number) => new Float32Array(length);
  assert.throws(
    () => linalg.addLowRank(of(5), of(2), of(3), { rows: 2, cols: 3, rank: 1 }),
    /x has 5 elements, needs 6/,
  );
  assert.throws(
    () => linalg.addLowRank(of(6), of(2), of(4), { rows: 2, cols: 3, rank: 1 }),
    /a has 4 elements, needs 3/,
  );
});
