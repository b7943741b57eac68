import assert from "node:assert/strict";
import fc from "fast-check";
import type { ShortRows } from "../../../src/linalg/linalg_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { LINALG_BACKENDS, testEachLinalg } from "./linalg_subject.ts";
import { Subject } from "../subject.ts";

const orders = fc.integer({ min: 0, max: 20 }).chain((n) =>
  fc.shuffledSubarray(Array.from({ length: n }, (_, i) => i), { minLength: n, maxLength: n })
).map((order) => Int32Array.from(order));

const shapes = fc.record({ rows: fc.nat(4), gap: fc.nat(3), gapOut: fc.nat(3) });

for (const kind of [Float32Array, Int8Array]) {
  const title = `gatherColumns() reorders columns of ${kind.name}, scatterColumns() puts them back`;
  testEachLinalg(title, (linalg, subject) => {
    fc.assert(
      fc.property(orders, shapes, (order, { rows, gap, gapOut }) => {
        const n = order.length,
          x = new kind(rows * (n + gap)).map((_: number, i: number) => i - 40);
        const rowsOf = (data: Float32Array | Int8Array, stride: number) =>
          matrix(data, rows, n, stride) as ShortRows;
        const own = subject.input(order), before = new kind(rows * (n + gapOut)).fill(99);
        const moved = subject.inOut(before), back = subject.inOut(x.map(() => 77));
        linalg.gatherColumns(rowsOf(moved, n + gapOut), rowsOf(subject.input(x), n + gap), own);
        moved.forEach((value, at) => {
          const i = Math.floor(at / (n + gapOut)), k = at % (n + gapOut);
          assert.equal(value, k < n ? x[i * (n + gap) + order[k]!] : 99);
        });
        linalg.scatterColumns(rowsOf(back, n + gap), rowsOf(moved, n + gapOut), own);
        assert.deepEqual([...back], [...x.map((value, at) => at % (n + gap) < n ? value : 77)]);
      }),
      { numRuns: 50 },
    );
  });
}

testEachLinalg("permuteSymmetric() reorders rows and columns in place", (linalg, subject) => {
  fc.assert(
    fc.property(orders, fc.nat(3), (order, gap) => {
      const n = order.length, stride = n + gap;
      const before = Float64Array.from({ length: n * stride }, (_, i) => i);
      const h = subject.inOut(before), spare = subject.output(new Float64Array(), n);
      linalg.permuteSymmetric(matrix(h, n, n, stride), subject.input(order), spare);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < stride; j++) {
          const from = j < n ? order[i]! * stride + order[j]! : i * stride + j;
          assert.equal(h[i * stride + j], before[from]);
        }
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("kernels that reorder refuse orders that would reach elsewhere", () => {
  for (const backend of LINALG_BACKENDS) {
    const { linalg, buffer, name } = backend;
    const subject = new Subject({ name, buffer, kernels: {} as never });
    const x = matrix(subject.inOut(new Float32Array(6)), 2, 3);
    const out = matrix(subject.inOut(new Float32Array(6)), 2, 3);
    const h = matrix(subject.inOut(new Float64Array(9)), 3, 3);
    const spare = subject.inOut(new Float64Array(3)), codes = subject.inOut(new Int8Array(6));
    const order = (...places: number[]) => subject.inOut(Int32Array.from(places));
    const cases: [() => void, RegExp][] = [
      [() => linalg.gatherColumns(out, x, order(0, 1)), /order has 2 elements, needs 3/],
      [() => linalg.gatherColumns(out, x, order(0, 1, 3)), /order has 3, needs 0 to 2/],
      [() => linalg.scatterColumns(out, x, order(0, -1, 1)), /order has -1, needs 0 to 2/],
      [() => linalg.gatherColumns(matrix(codes, 2, 3), x, order(0, 1, 2)), /different kinds/],
      [() => linalg.permuteSymmetric(h, order(0, 1, 1), spare), /order has an index twice/],
      [() => linalg.permuteSymmetric(h, order(0, 1, 2), spare.subarray(1)), /spare has 2/],
    ];
    for (const [call, message] of cases) assert.throws(call, message);
  }
});
