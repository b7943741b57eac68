import assert from "node:assert/strict";
import "../support/large_arrays.ts";

Deno.test("arrays of numbers that differ are reported by their first difference", () => {
  const a = new Uint8Array(1 << 20), b = a.slice();
  assert.deepEqual(a, b);
  b[77] = 3;
  b[99] = 4;
  assert.throws(() => assert.deepEqual(a, b, "codes"), {
    message: "codes: 2 of 1048576 elements differ, the first at 77: 0 is not 3",
  });
  assert.throws(() => assert.deepEqual(a, a.subarray(1)), /1048576 elements are not 1048575/);
  assert.throws(() => assert.deepEqual(a, new Int8Array(1 << 20)), /Uint8Array is not Int8Array/);
});

Deno.test("zeros of two signs differ, NaN equals itself, and other values are compared as before", () => {
  assert.throws(() => assert.deepEqual(Float32Array.of(0), Float32Array.of(-0)), /first at 0/);
  assert.deepEqual(Float32Array.of(NaN), Float32Array.of(NaN));
  assert.deepEqual({ a: [1] }, { a: [1] });
  assert.throws(() => assert.deepEqual({ a: [1] }, { a: [2] }));
});
