/**
 * Loaded before the tests: arrays of numbers that differ are reported by their first difference. `node:assert`
 * would compute a difference of their texts, line by line: of 100,000 elements it takes minutes and 24 GB.
 */

import assert from "node:assert/strict";

type Numbers = ArrayLike<unknown> & ArrayBufferView;

const isNumbers = (value: unknown): value is Numbers =>
  ArrayBuffer.isView(value) && !(value instanceof DataView);

const deepEqual = assert.deepEqual;

/** As `assert.deepEqual`; the message for two arrays of numbers is short. */
function compare(actual: unknown, expected: unknown, message?: string | Error): void {
  if (!isNumbers(actual) || !isNumbers(expected)) return deepEqual(actual, expected, message);
  const [name, wanted] = [actual, expected].map((array) => array.constructor.name);
  if (name !== wanted) throw failure(`${name} is not ${wanted}`, message);
  if (actual.length !== expected.length) {
    throw failure(`${actual.length} elements are not ${expected.length}`, message);
  }
  let differing = 0, first = -1;
  for (let i = 0; i < actual.length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    if (differing++ === 0) first = i;
  }
  if (differing === 0) return;
  throw failure(
    `${differing} of ${actual.length} elements differ, the first at ${first}: ` +
      `${actual[first]} is not ${expected[first]}`,
    message,
  );
}

function failure(what: string, message: string | Error | undefined): Error {
  if (message instanceof Error) return message;
  return new assert.AssertionError({
    message: message === undefined ? what : `${message}: ${what}`,
    operator: "deepEqual",
  });
}

Object.assign(assert, { deepEqual: compare, deepStrictEqual: compare });
