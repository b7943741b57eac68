import assert from "node:assert/strict";
import fc from "fast-check";
import { matrix } from "../../src/linalg/matrix.ts";
import {
  actOrder,
  gatherColumns,
  permuteSymmetric,
  scatterColumns,
} from "../../src/linalg/permute.ts";

const orders = fc.integer({ min: 0, max: 20 }).chain((n) =>
  fc.shuffledSubarray(Array.from({ length: n }, (_, i) => i), { minLength: n, maxLength: n })
).map((order) => Int32Array.from(order));

Deno.test("actOrder() puts the least important first, ties by index", () => {
  assert.deepEqual([...actOrder(Float64Array.of(3, 1, 2, 1, 0))], [4, 1, 3, 2, 0]);
});

Deno.test("gatherColumns() reorders columns, scatterColumns() puts them back", () => {
  fc.assert(fc.property(orders, fc.nat(4), (order, rows) => {
    const n = order.length, x = Float32Array.from({ length: rows * n }, (_, i) => i);
    const moved = matrix(new Float32Array(rows * n), rows, n);
    const back = matrix(new Float32Array(rows * n), rows, n);
    gatherColumns(moved, matrix(x, rows, n), order);
    moved.data.forEach((value, i) => {
      assert.equal(value, x[Math.floor(i / n) * n + order[i % n]!]);
    });
    scatterColumns(back, moved, order);
    assert.deepEqual(back.data, x);
  }));
});

Deno.test("permuteSymmetric() reorders rows and columns in place", () => {
  fc.assert(fc.property(orders, fc.nat(3), (order, gap) => {
    const n = order.length, stride = n + gap;
    const h = Float64Array.from({ length: n * stride }, (_, i) => i), before = h.slice();
    permuteSymmetric(matrix(h, n, n, stride), order, new Float64Array(n));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        assert.equal(h[i * stride + j], before[order[i]! * stride + order[j]!]);
      }
    }
  }));
});
