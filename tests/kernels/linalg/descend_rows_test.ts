import assert from "node:assert/strict";
import fc from "fast-check";
import { asKept } from "../subnormals.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { assertSameBits, type NumberArray } from "../subject.ts";
import { type Flavor, flavors, seeds, uniform, values } from "../values.ts";
import { assertSameOnAllDevices, testEachDevice } from "./linalg_subject.ts";

/** One row of codes at scale 1 with the identity as panel, no factors. */
function rowOf(
  errors: readonly number[],
  gradient: readonly number[],
  codes: readonly number[],
  penalty = 0,
) {
  const n = errors.length;
  const identity = Float32Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0);
  return {
    errors: matrix(Float32Array.from(errors), 1, n),
    gradient: matrix(Float32Array.from(gradient), 1, n),
    offset: 0,
    panel: matrix(identity, n, n),
    weights: Float32Array.of(1),
    factors: matrix(new Float32Array(0), 1, 0),
    sums: matrix(new Float32Array(0), n, 0),
    totals: new Float64Array(3),
    scales: Float32Array.of(1),
    scaleCols: 1,
    groupRows: 1,
    firstRow: 0,
    columnGroups: new Int32Array(n),
    penalty,
    codes: Int8Array.from(codes),
    codesRowStride: n,
  };
}

testEachDevice(
  "descendRows() moves a code to the other side of its weight if the loss falls",
  async (linalg, subject) => {
    // Moves are worth d * (2 g + d): with d = -1 gains begin at g > 0.5, with d = 1 at g < -0.5.
    const row = rowOf([0.4, 0.4, -0.4, -0.4, 0, 0.3], [0.6, 0.4, -0.6, 0.6, 9, NaN], [
      5,
      5,
      5,
      5,
      5,
      5,
    ]);
    const codes = subject.inOut(row.codes), errors = subject.inOut(row.errors.data);
    const gradient = subject.inOut(row.gradient.data);
    const totals = subject.inOut(row.totals);
    await linalg.descendRows({
      ...row,
      codes,
      errors: matrix(errors, 1, 6),
      gradient: matrix(gradient, 1, 6),
      panel: matrix(subject.input(row.panel.data), 6, 6),
      weights: subject.input(row.weights),
      factors: matrix(subject.input(new Float32Array(0)), 1, 0),
      sums: matrix(subject.inOut(new Float32Array(0)), 6, 0),
      totals,
      scales: subject.input(row.scales),
      columnGroups: subject.input(row.columnGroups as never),
    });
    assert.deepEqual([...codes], [4, 5, 6, 5, 5, 5]);
    const want = [-0.6, 0.4, 0.6, -0.4, 0, 0.3];
    want.forEach((e, j) => assert(Math.abs(errors[j]! - e) < 1e-6, `${j}: ${errors[j]}`));
    assert(Math.abs(gradient[0]! + 0.4) < 1e-6);
    assert.equal(totals[0], 2);
    assert(Math.abs(totals[1]! + 0.4) < 1e-6 && Math.abs(totals[2]! - 0.4) < 1e-6);
  },
);

interface Shape {
  readonly rows: number;
  readonly cols: number;
  /** Columns of the gradient before and after those of the tile. */
  readonly before: number;
  readonly after: number;
  readonly rank: number;
  /** Elements between rows. */
  readonly gap: number;
  readonly groupRows: number;
  readonly scaleCols: number;
  readonly firstRow: number;
  readonly penalty: number;
}

/** Fails if a device moves other codes of a random tile than the reference. */
async function assertSameMoves(seed: number, shape: Shape, flavor: Flavor): Promise<void> {
  const { rows, cols, before, after, rank, gap, groupRows, scaleCols, firstRow } = shape;
  const width = before + cols + after, next = uniform(seed);
  const errors = await asKept(values(seed, rows * (cols + gap), flavor));
  const gradient = values(seed + 1, rows * (width + gap), "plain").map((x) => x * 10);
  const panel = values(seed + 2, cols * width, "plain");
  const factors = values(seed + 3, rows * rank, "plain");
  const sums = values(seed + 4, cols * (rank + gap), "plain");
  const weights = Float32Array.from({ length: rows }, () => next());
  const groups = Math.ceil((firstRow + rows) / groupRows) + 1;
  const scales = Float32Array.from({ length: groups * scaleCols }, () => next() * 0.1);
  const columnGroups = Int32Array.from({ length: cols }, () => Math.floor(next() * scaleCols));
  const codes = Int8Array.from(
    { length: rows * (cols + gap) },
    () => Math.floor(next() * 255) - 127,
  );
  await assertSameOnAllDevices(
    JSON.stringify({ seed, flavor, ...shape }),
    async (linalg, subject) => {
      const results = [
        subject.inOut(codes),
        subject.inOut(errors),
        subject.inOut(gradient),
        subject.inOut(sums),
        subject.inOut(new Float64Array(3)),
      ] as const;
      await linalg.descendRows({
        codes: results[0],
        codesRowStride: cols + gap,
        errors: matrix(results[1], rows, cols, cols + gap),
        gradient: matrix(results[2], rows, width, width + gap),
        offset: before,
        panel: matrix(subject.input(panel), cols, width),
        weights: subject.input(weights),
        factors: matrix(subject.input(factors), rows, rank),
        sums: matrix(results[3], cols, rank, rank + gap),
        totals: results[4],
        scales: subject.input(scales),
        scaleCols,
        groupRows,
        firstRow,
        columnGroups: subject.input(columnGroups as never),
        penalty: shape.penalty,
      });
      return results;
    },
    (got, want, context) =>
      (want instanceof Float64Array ? assertTotals : assertSameBits)(got, want, context),
  );
}

/** A GPU adds gains and costs up in f32 per row. In these tests they are less than 1 a move, or all alike. */
function assertTotals(got: NumberArray, want: NumberArray, context: string): void {
  want.forEach((total, k) => {
    const isClose = Math.abs(got[k]! - total) <= 1e-5 * (Math.abs(total) + want[0]!);
    assert(isClose || Object.is(got[k], total), `${context}: total ${k}: ${got[k]}, not ${total}`);
  });
}

Deno.test("descendRows() gives the same on every backend for any shapes and values", async () => {
  const shape: fc.Arbitrary<Shape> = fc.record({
    rows: fc.nat(9),
    cols: fc.integer({ min: 1, max: 11 }),
    before: fc.nat(5),
    after: fc.nat(5),
    rank: fc.nat(9),
    gap: fc.nat(3),
    groupRows: fc.integer({ min: 1, max: 4 }),
    scaleCols: fc.integer({ min: 1, max: 3 }),
    firstRow: fc.nat(9),
    penalty: fc.constantFrom(0, 0.01, 1, 1e30, Infinity),
  });
  await fc.assert(
    fc.asyncProperty(seeds, shape, flavors, async (seed, shape, flavor) => {
      await assertSameMoves(seed, shape, flavor);
    }),
    { numRuns: 200 },
  );
});

Deno.test("descendRows() gives the same on every device beyond its tiles", async () => {
  const sizes = { rows: 30, cols: 150, before: 9, after: 70, rank: 70, gap: 1 };
  const shape = { ...sizes, groupRows: 4, scaleCols: 3, firstRow: 2, penalty: 0.01 };
  await assertSameMoves(1, shape, "plain");
});

testEachDevice("descendRows() keeps codes within 127", async (linalg, subject) => {
  const row = rowOf([-0.9, 0.9], [-9, 9], [127, -127]);
  const codes = subject.inOut(row.codes);
  await linalg.descendRows({
    ...row,
    codes,
    errors: matrix(subject.inOut(row.errors.data), 1, 2),
    gradient: matrix(subject.inOut(row.gradient.data), 1, 2),
    panel: matrix(subject.input(row.panel.data), 2, 2),
    weights: subject.input(row.weights),
    factors: matrix(subject.input(new Float32Array(0)), 1, 0),
    sums: matrix(subject.inOut(new Float32Array(0)), 2, 0),
    totals: subject.inOut(row.totals),
    scales: subject.input(row.scales),
    columnGroups: subject.input(row.columnGroups as never),
  });
  assert.deepEqual([...codes], [127, -127]);
});

testEachDevice("descendRows() rejects sizes that would reach beyond its arrays", async (linalg) => {
  const good = rowOf([0.1, 0.2], [0, 0], [0, 0]);
  const rejects = (change: Partial<typeof good>, message: RegExp) =>
    assert.rejects(async () => await linalg.descendRows({ ...good, ...change }), message);
  await rejects({ offset: 1 }, /columns 1 to 3 are not within 2/);
  await rejects({ codes: new Int8Array(1) }, /codes reaches over 2 elements, has 1/);
  await rejects({ totals: new Float64Array(2) }, /totals has 2 elements, needs 3/);
  await rejects({ weights: new Float32Array(0) }, /weights has 0 elements, needs 1/);
  await rejects({ columnGroups: Int32Array.of(0, 1) }, /columnGroups must be within 0 to 0/);
  await rejects({ firstRow: 1 }, /scales has 1 elements, needs 2/);
});
