import assert from "node:assert/strict";
import fc from "fast-check";
import { byteLength, elementCount } from "../../src/core/shape.ts";

Deno.test("elementCount() is the product of the sizes, 1 for a scalar", () => {
  assert.equal(elementCount([]), 1);
  assert.equal(elementCount([7]), 7);
  assert.equal(elementCount([3, 5, 1, 2]), 30);
  fc.assert(fc.property(fc.array(fc.nat(50), { maxLength: 5 }), (shape) => {
    assert.equal(elementCount(shape), shape.reduce((a, b) => a * b, 1));
  }));
});

Deno.test("elementCount() is 0 if a size is 0, even beside sizes that overflow", () => {
  assert.equal(elementCount([0]), 0);
  assert.equal(elementCount([2 ** 40, 2 ** 40, 0]), 0);
});

Deno.test("elementCount() is undefined beyond 2^53 - 1", () => {
  assert.equal(elementCount([Number.MAX_SAFE_INTEGER]), Number.MAX_SAFE_INTEGER);
  assert.equal(elementCount([2 ** 26, 2 ** 27]), undefined);
  assert.equal(elementCount([2 ** 53 - 1, 2 ** 53 - 1]), undefined);
  // 2^60 is a number that a double holds: size, not exactness, decides.
  assert.equal(elementCount([2 ** 30, 2 ** 30, 1]), undefined);
});

Deno.test("byteLength() counts bytes of every element size", () => {
  assert.equal(byteLength("F64", [3]), 24);
  assert.equal(byteLength("BF16", [3, 5]), 30);
  assert.equal(byteLength("I8", []), 1);
  assert.equal(byteLength("C64", [2]), 16);
  assert.equal(byteLength("F4", [6]), 3);
  assert.equal(byteLength("F6_E2M3", [4]), 3);
  assert.equal(byteLength("F32", [0, 9]), 0);
});

Deno.test("byteLength() is undefined if a sub-byte dtype leaves a byte half full", () => {
  assert.equal(byteLength("F4", [3]), undefined);
  assert.equal(byteLength("F6_E3M2", [2]), undefined);
});

Deno.test("byteLength() is undefined if the count of bits overflows", () => {
  assert.equal(byteLength("F64", [2 ** 50]), undefined);
  assert.equal(byteLength("U8", [2 ** 50]), undefined);
  assert.equal(byteLength("U8", [2 ** 49]), 2 ** 49);
});
