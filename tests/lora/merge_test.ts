import assert from "node:assert/strict";
import fc from "fast-check";
import { type LoraDelta, sliceDelta } from "../../src/lora/lora_delta.ts";
import {
  addLoraDelta,
  loraDampening,
  mergeLoraIntoWeight,
  mergeMultipleLoras,
} from "../../src/lora/merge.ts";
import { relativeError, seededFloats } from "./floats.ts";

/** w + factor * b · a in f64, the plain way. */
function reference(
  w: Float32Array,
  { a, b, rank }: { a: Float32Array; b: Float32Array; rank: number },
  factor: number,
): Float64Array {
  const cols = a.length / rank;
  return Float64Array.from(w, (x, at) => {
    const row = Math.floor(at / cols);
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += b[row * rank + r]! * a[r * cols + at % cols]!;
    return x + factor * sum;
  });
}

function pairDelta(rows: number, cols: number, rank: number, seed: number): LoraDelta {
  return {
    rowStart: 0,
    rowCount: rows,
    cols,
    scaling: 0.5,
    strength: 0.8,
    form: {
      kind: "lora",
      rank,
      a: seededFloats(rank * cols, seed),
      b: seededFloats(rows * rank, seed + 1),
    },
    magnitude: null,
  };
}

Deno.test("mergeLoraIntoWeight() is W + scale * alpha / rank * B·A to f32 precision", () => {
  for (const [rows, cols, rank] of [[1, 1, 1], [7, 13, 3], [16, 1030, 4], [33, 64, 129]] as const) {
    const w = seededFloats(rows * cols, 1);
    const loraA = seededFloats(rank * cols, 2);
    const loraB = seededFloats(rows * rank, 3);
    const before = w.slice();
    const merged = mergeLoraIntoWeight(w, { loraA, loraB, rank, alpha: 5, scale: 0.7 });
    const want = reference(w, { a: loraA, b: loraB, rank }, 0.7 * 5 / rank);
    assert.ok(relativeError(merged, want) < 1e-7, `${rows} x ${cols} rank ${rank}`);
    for (let i = 0; i < want.length; i++) {
      assert.ok(Math.abs(merged[i]! - want[i]!) <= Math.abs(want[i]!) * 1.2e-7 + 1e-14);
    }
    assert.deepEqual(w, before);
  }
});

Deno.test("mergeLoraIntoWeight() counts a pair without alpha as it is", () => {
  const loraA = seededFloats(4 * 6, 1);
  const loraB = seededFloats(5 * 4, 2);
  const w = seededFloats(30, 3);
  assert.deepEqual(
    mergeLoraIntoWeight(w, { loraA, loraB, rank: 4 }),
    mergeLoraIntoWeight(w, { loraA, loraB, rank: 4, alpha: 4, scale: 1 }),
  );
});

Deno.test("mergeLoraIntoWeight() at strength 0 changes nothing, not even -0", () => {
  const w = new Float32Array([-0, 1, NaN, -2]);
  const merged = mergeLoraIntoWeight(w, {
    loraA: new Float32Array([1, 2]),
    loraB: new Float32Array([3, 4]),
    rank: 1,
    scale: 0,
  });
  assert.deepEqual(new Uint32Array(merged.buffer), new Uint32Array(w.buffer));
});

Deno.test("mergeLoraIntoWeight() refuses sizes, ranks and factors that make no sense", () => {
  const ones = (n: number) => new Float32Array(n).fill(1);
  const good = { loraA: ones(8), loraB: ones(6), rank: 2, alpha: 2 };
  assert.equal(mergeLoraIntoWeight(ones(12), good).length, 12);
  const bad: [Partial<typeof good & { scale: number }>, RegExp][] = [
    [{ rank: 0 }, /rank is 0, a positive integer/],
    [{ rank: 1.5 }, /rank is 1\.5/],
    [{ alpha: NaN }, /alpha is NaN/],
    [{ scale: Infinity }, /scale is Infinity/],
    [{ loraA: ones(7) }, /loraA has 7 elements/],
    [{ loraB: ones(8) }, /loraB 8, the weight 12/],
  ];
  for (const [change, message] of bad) {
    assert.throws(() => mergeLoraIntoWeight(ones(12), { ...good, ...change }), message);
  }
});

Deno.test("mergeMultipleLoras() dampens 1, .9, .81 once, and only when asked", () => {
  const one = { loraA: new Float32Array([1]), loraB: new Float32Array([1]), rank: 1, alpha: 1 };
  const zero = new Float32Array([0]);
  assert.equal(mergeMultipleLoras(zero, [one, one, one])[0], 3);
  const dampened = mergeMultipleLoras(zero, [one, one, one], { dampen: true })[0]!;
  assert.ok(Math.abs(dampened - (1 + 0.9 + 0.81)) < 1e-6);
  assert.deepEqual([0, 1, 2].map((i) => loraDampening(i).toFixed(12)), [
    "1.000000000000",
    "0.900000000000",
    "0.810000000000",
  ]);
  const scaled = mergeMultipleLoras(zero, [{ ...one, scale: 1 }, { ...one, scale: 0.9 }])[0]!;
  assert.ok(Math.abs(scaled - 1.9) < 1e-6);
});

Deno.test("addLoraDelta() gives the same bits in chunks of any size", () => {
  fc.assert(fc.property(
    fc.record({
      rows: fc.integer({ min: 1, max: 20 }),
      cols: fc.integer({ min: 1, max: 20 }),
      rank: fc.integer({ min: 1, max: 9 }),
      cut: fc.integer({ min: 0, max: 20 }),
      seed: fc.integer({ min: 1, max: 1e6 }),
    }),
    ({ rows, cols, rank, cut, seed }) => {
      const delta = pairDelta(rows, cols, rank, seed);
      const w = seededFloats(rows * cols, seed + 2);
      const whole = w.slice();
      addLoraDelta(whole, delta);
      const at = Math.min(cut, rows);
      const top = w.slice(0, at * cols);
      const bottom = w.slice(at * cols);
      addLoraDelta(top, delta);
      const below = sliceDelta(delta, at, rows);
      if (below !== null) addLoraDelta(bottom, below, { rowStart: at });
      else assert.equal(bottom.length, 0);
      assert.deepEqual([...top, ...bottom], [...whole]);
    },
  ));
});

Deno.test("addLoraDelta() changes the rows of a fused weight that it is for, and no others", () => {
  const delta = { ...pairDelta(3, 4, 2, 5), rowStart: 4 };
  const w = seededFloats(10 * 4, 9);
  const merged = w.slice();
  addLoraDelta(merged, delta);
  const form = delta.form as Extract<LoraDelta["form"], { kind: "lora" }>;
  const want = reference(w.subarray(16, 28), form, 0.5 * 0.8);
  assert.ok(relativeError(merged.subarray(16, 28), want) < 1e-7);
  assert.deepEqual(merged.subarray(0, 16), w.subarray(0, 16));
  assert.deepEqual(merged.subarray(28), w.subarray(28));
  const untouched = w.slice(0, 16);
  addLoraDelta(untouched, delta);
  assert.deepEqual(untouched, w.slice(0, 16));
  assert.equal(sliceDelta(delta, 0, 4), null);
  assert.throws(() => addLoraDelta(new Float32Array(6), delta), /rows have 4/);
});

Deno.test("addLoraDelta() gives DoRA's rows their norms, and goes part of the way at less strength", () => {
  const rows = 5, cols = 7, rank = 2;
  const magnitude = new Float32Array([1, 2, 0.5, 3, 0.1]);
  const delta: LoraDelta = { ...pairDelta(rows, cols, rank, 3), strength: 1, magnitude };
  const form = delta.form as Extract<LoraDelta["form"], { kind: "lora" }>;
  const w = seededFloats(rows * cols, 8);
  const merged = w.slice();
  addLoraDelta(merged, delta);
  const sum = reference(w, form, delta.scaling);
  for (let row = 0; row < rows; row++) {
    const norm = Math.hypot(...sum.subarray(row * cols, (row + 1) * cols));
    assert.ok(
      Math.abs(Math.hypot(...merged.subarray(row * cols, (row + 1) * cols)) - magnitude[row]!) <
        1e-5,
    );
    for (let k = row * cols; k < (row + 1) * cols; k++) {
      assert.ok(Math.abs(merged[k]! - magnitude[row]! * sum[k]! / norm) < 1e-6);
    }
  }
  const half = w.slice();
  addLoraDelta(half, { ...delta, strength: 0.25 });
  half.forEach((x, k) => assert.ok(Math.abs(x - (w[k]! + 0.25 * (merged[k]! - w[k]!))) < 1e-6));
});
