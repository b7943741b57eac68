import assert from "node:assert/strict";
import fc from "fast-check";
import { GRAM_RUN, type LinalgKernels } from "../../../src/linalg/linalg_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import type { Subject } from "../subject.ts";
import { flavors, seeds, values } from "../values.ts";
import { assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";

/** Packs `x` `[terms, cols]`. */
function packed(linalg: LinalgKernels, subject: Subject, x: Float32Array, cols: number) {
  const terms = x.length / cols, runs = Math.ceil(terms / GRAM_RUN);
  const pairs = subject.output(new Int32Array(), Math.ceil(terms / 2) * cols);
  const scales = subject.output(new Float32Array(), runs * cols);
  for (let run = 0; run < runs; run++) {
    const from = run * GRAM_RUN, end = Math.min(terms, from + GRAM_RUN);
    const out = {
      pairs: pairs.subarray(from / 2 * cols, Math.ceil(end / 2) * cols),
      scales: scales.subarray(run * cols, (run + 1) * cols),
    };
    const part = subject.input(x.subarray(from * cols, end * cols));
    linalg.packFactor(out, matrix(part, end - from, cols));
  }
  return { pairs, scales };
}

const problems = fc.record({
  strips: fc.integer({ min: 1, max: 10 }),
  terms: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(63, 64, 65, 127, 128, 131, 200)),
  gap: fc.nat(3),
  seed: seeds,
  flavor: flavors,
  factor: fc.constantFrom(1, 1 / 3, -2e-9),
  add: fc.boolean(),
  cut: fc.nat(100),
});

Deno.test("gramI16() gives the same on every backend, for any part of the rows", () => {
  fc.assert(
    fc.property(problems, (problem) => {
      const { strips, terms, gap, seed, flavor, factor, add, cut } = problem;
      const cols = 8 * strips, x = values(seed, terms * cols, flavor);
      const start = Float64Array.from(values(seed + 1, cols * (cols + gap), "plain"));
      const first = 8 * (cut % (strips + 1)), end = first + 8 * (cut % (strips + 1 - first / 8));
      assertSameOnAllLinalg(JSON.stringify(problem), (linalg, subject) => {
        const h = subject.inOut(start);
        const own = { terms, first, end, factor, add };
        linalg.gramI16(matrix(h, cols, cols, cols + gap), packed(linalg, subject, x, cols), own);
        return [h];
      });
    }),
    { numRuns: 150 },
  );
});

Deno.test("gramI16() gives the same however its rows are split over calls", () => {
  const cols = 152, terms = 130, x = values(5, terms * cols, "plain");
  assertSameOnAllLinalg("split", (linalg, subject) => {
    const own = packed(linalg, subject, x, cols);
    const whole = subject.output(new Float64Array(), cols * cols);
    const parts = subject.output(new Float64Array(), cols * cols);
    const args = { terms, factor: 0.5, add: false };
    linalg.gramI16(matrix(whole, cols, cols), own, { ...args, first: 0, end: cols });
    for (const [first, end] of [[80, 152], [0, 8], [8, 80]] as const) {
      linalg.gramI16(matrix(parts, cols, cols), own, { ...args, first, end });
    }
    assert.deepEqual([...parts], [...whole]);
    return [whole];
  });
});

testEachLinalg("gramI16() gives symmetric moments near those in f64", (linalg, subject) => {
  const cols = 24, terms = 300;
  const x = values(7, terms * cols, "plain").map((value, i) => value * 10 ** (i % 5 - 2));
  const h = subject.output(new Float64Array(), cols * cols);
  const args = { terms, first: 0, end: cols, factor: 1 / terms, add: false };
  linalg.gramI16(matrix(h, cols, cols), packed(linalg, subject, x, cols), args);
  const moment = (i: number, j: number): number => {
    let sum = 0;
    for (let t = 0; t < terms; t++) sum += x[t * cols + i]! * x[t * cols + j]!;
    return sum / terms;
  };
  for (let i = 0; i < cols; i++) {
    for (let j = 0; j < cols; j++) {
      const unit = Math.sqrt(moment(i, i) * moment(j, j)), error = h[i * cols + j]! - moment(i, j);
      assert(Math.abs(error) <= 2e-5 * unit, `${i}, ${j}: off by ${error / unit}`);
      assert.equal(h[i * cols + j], h[j * cols + i], `${i}, ${j}: not symmetric`);
    }
  }
});

testEachLinalg("gramI16() cannot overflow", (linalg, subject) => {
  const cols = 8, terms = 128;
  const sizes: [string, (t: number) => number][] = [
    ["equal", () => 3],
    ["one", (t) => t === 5 ? 3 : 0],
    ["falling", (t) => 1 / (t + 1)],
  ];
  for (const [name, size] of sizes) {
    const x = Float32Array.from(
      { length: terms * cols },
      (_, i) => (i % 2 === 0 ? 1 : -1) * size(i >> 3),
    );
    const h = subject.output(new Float64Array(), cols * cols);
    const args = { terms, first: 0, end: cols, factor: 1, add: false };
    linalg.gramI16(matrix(h, cols, cols), packed(linalg, subject, x, cols), args);
    let want = 0;
    for (let t = 0; t < terms; t++) want += size(t) ** 2;
    h.forEach((value, at) => {
      const sign = (at + (at >> 3)) % 2 === 0 ? 1 : -1;
      assert(Math.abs(sign * value / want - 1) < 1e-3, `${name}: ${value}, ${want}`);
    });
  }
});

testEachLinalg("gramI16() refuses sizes that do not fit", (linalg, subject) => {
  const h = matrix(subject.output(new Float64Array(), 256), 16, 16);
  const x = {
    pairs: subject.output(new Int32Array(), 32 * 16),
    scales: subject.output(new Float32Array(), 16),
  };
  const args = { terms: 64, first: 0, end: 16, factor: 1, add: false };
  assert.throws(() => linalg.gramI16(h, x, { ...args, terms: 65 }), /needs 528 and 32/);
  assert.throws(() => linalg.gramI16(h, x, { ...args, end: 24 }), /multiples of 8/);
  assert.throws(() => linalg.gramI16(h, x, { ...args, first: 4 }), /multiples of 8/);
  h.data.fill(0);
  x.pairs.fill(0);
  x.scales.fill(0);
  linalg.gramI16(h, x, args);
});
