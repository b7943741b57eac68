import assert from "node:assert/strict";
import type { Hessian } from "../../../src/linalg/hessian.ts";
import { soloContext } from "../../../src/linalg/context.ts";
import { denseMeasures, guardRows } from "../../../src/run/chunks/guard_rows.ts";
import { withOwnMemory } from "../../../src/library/own_memory.ts";
import type { MatrixF32 } from "../../../src/linalg/matrix.ts";
import { gptqRows, prepareGptq } from "../../../src/quant/gptq.ts";
import { syntheticLayer } from "../../support/synthetic_layer.ts";

/** Channels that are correlated; as blocks by themselves they keep factoring cheap. */
const BLOCK = 4, CORRELATION = 0.95;

const ROWS = 40;

/**
 * A layer of `cols` columns that was compensated, all rows gaining clearly; `spoil` makes some worse.
 *
 * @param inIntegers errors are fed back in integers, by which samples are looked at, too. @param share of few inputs
 * if it is below 0.95.
 */
function guarded(
  cols: number,
  spoil: (code: (row: number, change: (code: number, nearest: number) => number) => void) => void,
  { inIntegers = false, share = 1 }: { inIntegers?: boolean; share?: number } = {},
): { told: number[]; changed: number[]; toNearest: number[] } {
  const grid = { rows: ROWS, cols, groupRows: 1, groupCols: cols };
  const count = ROWS * cols, block = inIntegers ? cols : BLOCK;
  const bytes = 4 * 128 * 4 * cols + 20 * count + 10 * cols * block +
    128 * cols * 8 + (4 << 20);
  return withOwnMemory(bytes, ({ kernels, linalg, memory }) => {
    const context = soloContext(linalg, memory);
    const weights = memory.f32(count), used = memory.f32(count);
    weights.set(syntheticLayer({ rows: ROWS, cols, seed: 7 }).weight);
    used.set(weights);
    const codes = memory.i8(count), nearest = memory.i8(count), scales = memory.f32(ROWS);
    kernels.absmax(scales, weights, grid);
    kernels.scaleFromAbsmax(scales, scales);
    kernels.quantize(nearest, weights, scales, grid);
    const values = memory.f64(cols * block).fill(0);
    for (let i = 0; i < cols; i++) {
      const first = i - i % BLOCK;
      for (let j = first; j < first + BLOCK; j++) {
        values[i * block + j % block] = i === j ? 1 : CORRELATION;
      }
    }
    const hessian: Hessian = { size: cols, blockSize: block, values, source: "hessian" };
    const turbo = inIntegers ? memory : null;
    const factor = prepareGptq(context, hessian, { actOrder: false, damping: 0.01, turbo });
    assert.equal(factor.packed !== null, inIntegers);
    gptqRows(context, factor, { weights: used, codes, firstRow: 0, grid, scales });
    spoil((row, change) => {
      for (let k = row * cols; k < (row + 1) * cols; k++) codes[k] = change(codes[k]!, nearest[k]!);
    });
    const before = codes.slice();
    const rounded = { weights, codes, scales, plain: scales, grid, share };
    const { exact, quick } = denseMeasures({ kernels }, context, factor);
    let exactly = 0;
    const counted = (errors: MatrixF32) => {
      exactly += errors.rows / 2; // as they are, and rounded to nearest
      return exact(errors);
    };
    const told = guardRows({ kernels, scratch: memory }, { exact: counted, quick }, rounded);
    seen.exactly = exactly;
    const differs = (other: Int8Array) => (row: number) =>
      codes.subarray(row * cols, (row + 1) * cols).some((code, k) =>
        code !== other[row * cols + k]
      );
    const all = [...Array(ROWS).keys()];
    return {
      told,
      changed: all.filter(differs(before)),
      toNearest: all.filter((row) => !differs(nearest)(row)),
    };
  });
}

/** Of the last {@link guarded}: how many rows were looked at exactly. */
const seen = { exactly: 0 };

/** Worse than nearest by far. */
const worse = (_: number, nearest: number) => nearest > 0 ? nearest - 2 : nearest + 2;

const NARROW = 1024, WIDE = 1028;

/** Few inputs. */
const FEW = { share: 0.9 };

Deno.test("guardRows() rounds every row of a narrow layer of few inputs to nearest that is worse, and no other", () => {
  const none = { told: [], changed: [], toNearest: [] };
  assert.deepEqual(guarded(NARROW, () => {}, FEW), none);
  const found = guarded(NARROW, (spoil) => [5, 33].forEach((row) => spoil(row, worse)), FEW);
  assert.deepEqual(found, { told: [5, 33], changed: [5, 33], toNearest: [5, 33] });
});

Deno.test("guardRows() looks exactly at those rows of a narrow layer that integers leave in doubt", () => {
  const found = guarded(NARROW, (spoil) => {
    [5, 33].forEach((row) => spoil(row, worse));
    spoil(20, (_, nearest) => nearest);
  }, { inIntegers: true, ...FEW });
  // A row that is as good as without compensation is no gain either.
  assert.deepEqual(found, { told: [5, 20, 33], changed: [5, 33], toNearest: [5, 20, 33] });
  assert.equal(seen.exactly, 3);
  const clear = guarded(NARROW, () => {}, { inIntegers: true, ...FEW });
  assert.deepEqual(clear, { told: [], changed: [], toNearest: [] });
  assert.equal(seen.exactly, 0);
});

Deno.test("guardRows() looks at a sample of the rows of a narrow layer of many inputs, and at all if it is in doubt", () => {
  for (const inIntegers of [false, true]) {
    const many = { inIntegers, share: 0.96 };
    const spoiled = (rows: readonly number[]) =>
      guarded(NARROW, (spoil) => rows.forEach((row) => spoil(row, worse)), many).told;
    assert.deepEqual(spoiled([5, 33]), []);
    assert.deepEqual(spoiled([5, 16, 33]), [5, 16, 33]);
    // Of how many inputs a given Hessian is, nobody knows.
    const given = guarded(NARROW, (spoil) => spoil(5, worse), { inIntegers });
    assert.deepEqual(given.told, [5]);
  }
});

for (const inIntegers of [false, true]) {
  const fedBack = inIntegers ? "in integers" : "in f32";
  const wide = (spoil: Parameters<typeof guarded>[1]) => guarded(WIDE, spoil, { inIntegers });

  Deno.test(`guardRows() looks at every row of a wide layer if one of the sample has not gained clearly, ${fedBack}`, async (t) => {
    const all = [5, 33];
    for (const sampled of inIntegers ? [16] : [0, 16, 32]) {
      const rows = [...all, sampled].sort((a, b) => a - b);
      await t.step(`row ${sampled}, which is worse`, () => {
        const found = wide((spoil) => rows.forEach((row) => spoil(row, worse)));
        assert.deepEqual(found, { told: rows, changed: rows, toNearest: rows });
      });
      await t.step(`row ${sampled}, which is as it would be without compensation`, () => {
        const found = wide((spoil) => {
          for (const row of all) spoil(row, worse);
          spoil(sampled, (_, nearest) => nearest);
        });
        assert.deepEqual(found, { told: all, changed: all, toNearest: rows });
      });
    }
  });

  Deno.test(`guardRows() looks at a sample of the rows of a wide layer if all of it has gained clearly, ${fedBack}`, () => {
    const found = wide((spoil) => [5, 33].forEach((row) => spoil(row, worse)));
    assert.deepEqual(found, { told: [], changed: [], toNearest: [] });
  });
}
