import assert from "node:assert/strict";
import fc from "fast-check";
import type { ShortMatrix } from "../../../src/linalg/linalg_kernels.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import type { Subject } from "../subject.ts";
import { flavors, seeds, values } from "../values.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { assertSameOnAllDevices, assertSameOnAllLinalg, testEachLinalg } from "./linalg_subject.ts";
import { relativeError } from "./relative_error.ts";

/** Room for `lines` packed lines of `terms`. */
function short(subject: Subject | null, lines: number, terms: number): ShortMatrix {
  const count = lines * Math.ceil(terms / 2);
  return {
    pairs: subject?.output(new Int32Array(), count) ?? new Int32Array(count),
    scales: subject?.output(new Float32Array(), lines) ?? new Float32Array(lines),
  };
}

const problems = fc.record({
  rows: fc.integer({ min: 0, max: 13 }),
  cols: fc.integer({ min: 0, max: 3 }).map((tiles) => 8 * tiles),
  terms: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constantFrom(127, 128)),
  gap: fc.nat(3),
  seed: seeds,
  flavor: flavors,
  add: fc.boolean(),
});

Deno.test("packErrors(), packFactor(), feedBack() give the same on every backend", () => {
  fc.assert(
    fc.property(problems, (problem) => {
      const { rows, cols, terms, gap, seed, flavor, add } = problem;
      const padded = Math.ceil(rows / 4) * 4;
      const errors = values(seed, rows * (terms + gap), flavor);
      const factor = values(seed + 1, terms * (cols + gap), flavor);
      const start = values(seed + 2, padded * (cols + gap), "plain");
      assertSameOnAllLinalg(JSON.stringify(problem), (linalg, subject) => {
        const e = short(subject, padded, terms), l = short(subject, cols, terms);
        linalg.packErrors(e, matrix(subject.input(errors), rows, terms, terms + gap));
        linalg.packFactor(l, matrix(subject.input(factor), terms, cols, cols + gap));
        const c = subject.inOut(start);
        linalg.feedBack(matrix(c, padded, cols, cols + gap), e, l, terms, add);
        return [e.pairs, e.scales, l.pairs, l.scales, c];
      });
    }),
    { numRuns: 200 },
  );
});

Deno.test("feedBack() of packed matrices gives the same on every device, beyond its tiles too", async () => {
  for (
    const [rows, cols, terms, gap, add] of [
      [4, 8, 1, 0, false],
      [68, 72, 33, 3, true],
      [132, 64, 128, 0, true],
      [8, 200, 64, 1, false],
      [4, 8, 0, 0, true],
    ] as const
  ) {
    const e = short(null, rows, terms), l = short(null, cols, terms);
    // Numbers of very different sizes, a row and a column of zeros.
    const errors = values(terms, rows * terms, "plain").map((x, i) => x * 2 ** -(i % 9));
    const factor = values(terms + 1, terms * cols, "outlier");
    errors.fill(0, 0, terms);
    referenceLinalg.packErrors(e, matrix(errors, rows, terms));
    referenceLinalg.packFactor(l, matrix(factor, terms, cols));
    const start = values(3, rows * (cols + gap), "plain");
    await assertSameOnAllDevices(`${rows} x ${cols} x ${terms}`, async (linalg, subject) => {
      const given = ({ pairs, scales }: ShortMatrix) => ({
        pairs: subject.input(pairs),
        scales: subject.input(scales),
      });
      const c = subject.inOut(start);
      await linalg.feedBack(matrix(c, rows, cols, cols + gap), given(e), given(l), terms, add);
      return [c];
    });
  }
});

testEachLinalg("feedBack() gives a product worked out by hand", (linalg, subject) => {
  const e = short(subject, 4, 3), l = short(subject, 8, 3);
  const errors = Float32Array.of(32767, -1, 0.5, 0, 0, 0);
  const factor = new Float32Array(24);
  factor.set([2, 2, 0], 0); // columns 0, 1, 2 of the first term
  factor.set([32767, 4, 0], 8);
  factor.set([-3, 2 ** -9, 0], 16);
  linalg.packErrors(e, matrix(subject.input(errors), 2, 3));
  linalg.packFactor(l, matrix(subject.input(factor), 3, 8));
  assert.deepEqual([...e.scales], [1, 0, 0, 0]);
  const c = subject.inOut(new Float32Array(32).fill(5));
  linalg.feedBack(matrix(c, 4, 8), e, l, 3, true);
  // 0.5 is half-way between codes 0 and 1, and goes to the even one.
  assert.equal(c[0], 5 + 2 * 32767 - 32767);
  assert(Math.abs(c[1]! - (5 + 2 * 32767 - 4)) < 3);
  assert.equal(c[2], 5);
  assert.deepEqual([...c.slice(8)], Array(24).fill(5));
});

testEachLinalg("feedBack() cannot overflow", (linalg, subject) => {
  const terms = 128, e = short(subject, 4, terms), l = short(subject, 8, terms);
  const ones = new Float32Array(4 * terms).fill(1);
  const sizes: [string, (k: number) => number][] = [
    ["equal", () => 3],
    ["one", (k) => k === 5 ? 3 : 0],
    ["falling", (k) => 1 / (k + 1)],
  ];
  for (const [name, size] of sizes) {
    for (const sign of [1, -1]) {
      const factor = Float32Array.from({ length: 8 * terms }, (_, i) => sign * size(i >> 3));
      linalg.packErrors(e, matrix(subject.input(ones), 4, terms));
      linalg.packFactor(l, matrix(subject.input(factor), terms, 8));
      const c = subject.output(ones, 32);
      linalg.feedBack(matrix(c, 4, 8), e, l, terms, false);
      let want = 0;
      for (let k = 0; k < terms; k++) want += sign * size(k);
      for (const value of c) {
        assert(Math.abs(value / want - 1) < 1e-3, `${name}: ${value}, ${want}`);
      }
    }
  }
});

testEachLinalg("feedBack() is within 2^-13 of a usual product of 64 terms", (linalg, subject) => {
  const rows = 40, terms = 64, cols = 16;
  const errors = values(1, rows * terms, "plain"), factor = values(2, terms * cols, "plain");
  const e = short(subject, rows, terms), l = short(subject, cols, terms);
  linalg.packErrors(e, matrix(subject.input(errors), rows, terms));
  linalg.packFactor(l, matrix(subject.input(factor), terms, cols));
  const c = subject.output(errors, rows * cols);
  linalg.feedBack(matrix(c, rows, cols), e, l, terms, false);
  const relative = relativeError(c, errors, factor, { rows, terms, cols });
  assert(relative < 2 ** -13, `${relative}`);
  assert(relative > 2 ** -18, "these are not 16-bit integers");
});

testEachLinalg("feedBack() and what packs for it reject what does not fit", (linalg) => {
  const room = (lines: number, terms: number): ShortMatrix => ({
    pairs: new Int32Array(lines * Math.ceil(terms / 2)),
    scales: new Float32Array(lines),
  });
  const m = (rows: number, cols: number) => matrix(new Float32Array(rows * cols), rows, cols);
  assert.throws(() => linalg.packErrors(room(4, 3), m(5, 3)), {
    message: "Cannot run packErrors: out has 8 pairs, needs 16",
  });
  assert.throws(() => linalg.packErrors(room(4, 129), m(4, 129)), /129 terms may overflow/);
  assert.throws(() => linalg.packFactor(room(9, 3), m(3, 9)), /9 columns, needs a multiple of 8/);
  assert.throws(
    () => linalg.packFactor({ pairs: new Int32Array(16), scales: new Float32Array(7) }, m(3, 8)),
    /out has 7 scales, needs 8/,
  );
  assert.throws(() => linalg.feedBack(m(3, 8), room(4, 2), room(8, 2), 2, false), /3 x 8/);
  assert.throws(() => linalg.feedBack(m(4, 8), room(4, 2), room(8, 2), 4, false), /e has 4 pairs/);
});
