import assert from "node:assert/strict";
import { outputSums } from "../../src/convert/plain_outputs.ts";
import { rotate } from "../../src/backend/reference/rotate.ts";
import { ownKernels } from "../../src/run/workers/own_kernels.ts";
import { randomValues } from "../support/encode.ts";

const COLS = 64;

/** Returns a row as it is after rounding to nearest with the scale `absmax / 127`. */
function rounded(row: Float32Array): Float32Array {
  const absmax = row.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const scale = Math.fround(absmax / 127);
  return row.map((x) => scale * Math.round(Math.fround(x / scale)));
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
}

function rowsOf(values: Float32Array): Float32Array[] {
  return Array.from(
    { length: values.length / COLS },
    (_, i) => values.slice(i * COLS, (i + 1) * COLS),
  );
}

for (const group of [null, 16]) {
  Deno.test(`outputSums() is the squared difference of outputs${group === null ? "" : ", of rotated rows"}`, () => {
    const weights = randomValues(5 * COLS, 1), inputs = randomValues(7 * COLS, 2);
    const raw = (values: Float32Array) => ({
      bytes: new Uint8Array(values.buffer),
      dtype: "F32" as const,
      rows: values.length / COLS,
    });
    const sample = { weights: raw(weights), inputs: raw(inputs), cols: COLS };
    const sums = outputSums(ownKernels({ needsLinalg: true }), sample, {
      group,
      isSearched: false,
    });
    const turned = (row: Float32Array) => {
      if (group !== null) rotate(row, group);
      return row;
    };
    let error = 0, squares = 0;
    for (const w of rowsOf(weights).map(turned)) {
      squares += dot(w, w);
      for (const x of rowsOf(inputs).map(turned)) {
        error += (dot(x, w) - dot(rounded(x), rounded(w))) ** 2;
      }
    }
    assert.ok(Math.abs(sums.error / error - 1) < 1e-4, `${sums.error} for ${error}`);
    assert.ok(Math.abs(sums.squares / squares - 1) < 1e-6, `${sums.squares} for ${squares}`);
  });
}

Deno.test("outputSums() searches scales of weights if asked", () => {
  const cols = 2 ** 16, own = ownKernels({ needsLinalg: true });
  const weights = randomValues(cols, 3), inputs = randomValues(64 * cols, 4);
  // One value is larger than all others, which a smaller scale would serve better.
  const most = weights.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
  for (let i = 0; i < cols; i++) weights[i] = Math.sign(weights[i]!) * (i % 97) / 97 * most;
  weights[0] = 1.1 * most;
  const raw = (values: Float32Array) => ({
    bytes: new Uint8Array(values.buffer),
    dtype: "F32" as const,
    rows: values.length / cols,
  });
  const sample = { weights: raw(weights), inputs: raw(inputs), cols };
  const [plain, searched] = [false, true].map((isSearched) =>
    outputSums(own, sample, { group: null, isSearched }).error
  );
  assert.ok(searched! < plain!, `${searched} is not below ${plain}`);
});
