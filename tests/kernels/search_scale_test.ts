import assert from "node:assert/strict";
import fc from "fast-check";
import { type Grid, groupCount } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import {
  assertSameBits,
  assertSameOnAllBackends,
  type Subject,
  testEachBackend,
} from "./subject.ts";
import { flavors, grids, seeds, uniform, values } from "./values.ts";
import { type Packed, readVectors, unpack } from "./vectors.ts";

interface Case extends Grid {
  x: Packed<"f32">;
  start: Packed<"f32">;
  scales: Packed<"f32">;
}

for (const { name, x, start, scales, ...grid } of readVectors<Case>("search_scale")) {
  testEachBackend(`searchScale() chooses the golden scales of ${name}`, async (subject) => {
    const got = subject.inOut(unpack(start));
    await subject.kernels.searchScale(got, subject.input(unpack(x)), grid);
    assertSameBits(got, unpack(scales), name);
  });
}

/** The scales of absmax / 127, and those that the search makes of them. */
async function search(subject: Subject, x: Float32Array, grid: Grid) {
  const start = subject.output(new Float32Array(), groupCount(grid));
  const input = subject.input(x);
  await subject.kernels.absmax(start, input, grid);
  await subject.kernels.scaleFromAbsmax(start, start);
  const scales = subject.inOut(start);
  await subject.kernels.searchScale(scales, input, grid);
  return { start, scales };
}

/** Squared error per group, in f64, with the codes of quantize(). */
async function errors(subject: Subject, x: Float32Array, scales: Float32Array, grid: Grid) {
  const codes = subject.output(new Int8Array(), x.length);
  await subject.kernels.quantize(codes, subject.input(x), subject.input(scales), grid);
  const sums = new Float64Array(scales.length);
  for (let i = 0; i < x.length; i++) {
    const r = Math.floor(i / grid.cols), c = i % grid.cols;
    const g = Math.floor(r / grid.groupRows) * (grid.cols / grid.groupCols) +
      Math.floor(c / grid.groupCols);
    sums[g]! += (x[i]! - codes[i]! * scales[g]!) ** 2;
  }
  return sums;
}

testEachBackend("searchScale() never makes the error of a group larger", async (subject) => {
  const shapes: Grid[] = [
    { rows: 20, cols: 64, groupRows: 1, groupCols: 64 },
    { rows: 16, cols: 96, groupRows: 8, groupCols: 48 },
    { rows: 3, cols: 1031, groupRows: 1, groupCols: 1031 },
    { rows: 300, cols: 3, groupRows: 1, groupCols: 3 },
  ];
  for (const grid of shapes) {
    for (const flavor of ["plain", "sparse", "outlier", "ties"] as const) {
      const x = values(grid.cols, grid.rows * grid.cols, flavor);
      const { start, scales } = await search(subject, x, grid);
      const before = await errors(subject, x, start, grid);
      const after = await errors(subject, x, scales, grid);
      after.forEach((error, g) => {
        const context = `${flavor}, ${JSON.stringify(grid)}, group ${g}`;
        assert(error <= before[g]!, `${context}: ${error} > ${before[g]}`);
        assert(scales[g]! <= start[g]!, `${context}: the scale grew`);
      });
    }
  }
});

testEachBackend(
  "searchScale() gains a tenth of a decibel on rows of normal values",
  async (subject) => {
    const grid = { rows: 12, cols: 4096, groupRows: 1, groupCols: 4096 };
    const x = values(77, grid.rows * grid.cols, "plain");
    const { start, scales } = await search(subject, x, grid);
    const before = (await errors(subject, x, start, grid)).reduce((a, b) => a + b);
    const after = (await errors(subject, x, scales, grid)).reduce((a, b) => a + b);
    assert(10 * Math.log10(before / after) > 0.1);
  },
);

/** Squared error of `t` (magnitudes in steps of the largest scale) with a scale smaller by `factor`. */
function costOf(t: Float32Array, factor: number): number {
  let sum = 0;
  for (const value of t) {
    const steps = value / factor;
    sum += (steps - Math.min(127, Math.round(steps))) ** 2;
  }
  return factor * factor * sum;
}

/** The least squared error among nine scales that close in on the best, in f64. */
function bestOfNine(t: Float32Array): number {
  const start = costOf(t, 1);
  const step = Math.min(Math.max(1.45 * start / 127 ** 2, 0.022), 0.5) / 4;
  let least = start, best = 1;
  const consider = (factor: number) => {
    const cost = costOf(t, factor);
    if (cost < least) [least, best] = [cost, factor];
  };
  for (let k = 1; k <= 4; k++) consider(1 - k * step);
  const center = best;
  const fine = center === 1 ? [-0.25, -0.5, -0.75, -0.875] : [0.5, 0.25, -0.25, -0.5];
  for (const offset of fine) consider(center + offset * step);
  return least;
}

Deno.test("searchScale() is within 0.3 % of the squared error of a search that closes in on the best scale", () => {
  for (const cols of [64, 256, 1024, 3072, 4096, 16384]) {
    const rows = Math.ceil(200_000 / cols);
    const x = values(cols, rows * cols, "plain");
    const grid = { rows, cols, groupRows: 1, groupCols: cols };
    const start = new Float32Array(rows);
    referenceKernels.absmax(start, x, grid);
    referenceKernels.scaleFromAbsmax(start, start);
    const scales = start.slice();
    referenceKernels.searchScale(scales, x, grid);
    let got = 0, want = 0;
    for (let r = 0; r < rows; r++) {
      const t = x.slice(r * cols, (r + 1) * cols).map((value) => Math.abs(value) / start[r]!);
      const square = start[r]! ** 2;
      got += square * costOf(t, scales[r]! / start[r]!);
      want += square * bestOfNine(t);
    }
    assert(got <= 1.003 * want, `${cols} columns: ${got / want}`);
  }
});

testEachBackend(
  "searchScale() keeps the scale of groups it can say nothing about",
  async (subject) => {
    const grid = { rows: 5, cols: 20, groupRows: 1, groupCols: 20 };
    const x = values(3, 100, "plain");
    x.fill(0, 0, 20);
    x[25] = NaN;
    x[45] = Infinity;
    const kept = new Float32Array([1e-30, 0.01, 0.01, NaN, 0]);
    const scales = subject.inOut(kept);
    await subject.kernels.searchScale(scales, subject.input(x), grid);
    assertSameBits(scales, kept, "zeros, NaN, infinity, NaN scale, zero scale");
  },
);

Deno.test("searchScale() chooses the same on every backend for any grid, values and scales", async () => {
  await fc.assert(
    fc.asyncProperty(seeds, grids, flavors, fc.boolean(), async (seed, grid, flavor, isOdd) => {
      const x = values(seed, grid.rows * grid.cols, flavor);
      const next = uniform(seed);
      const random = Float32Array.from({ length: groupCount(grid) }, () => next() * 0.01);
      await assertSameOnAllBackends(`seed ${seed}, ${JSON.stringify(grid)}`, async (subject) => {
        if (!isOdd) return [(await search(subject, x, grid)).scales];
        const scales = subject.inOut(random);
        await subject.kernels.searchScale(scales, subject.input(x), grid);
        return [scales];
      });
    }),
    { numRuns: 120 },
  );
});
