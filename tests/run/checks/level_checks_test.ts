import assert from "node:assert/strict";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { fillNormal, randomFor } from "../../../src/core/rng.ts";
import { HEAP, soloContext } from "../../../src/linalg/context.ts";
import { gptqRows, prepareGptq } from "../../../src/quant/gptq.ts";
import { groupedLevels, type LevelTables, levelTables } from "../../../src/quant/level_grid.ts";
import type { CheckKernels } from "../../../src/run/checks/gpu_check.ts";
import { ldlqCheck } from "../../../src/run/checks/ldlq_check.ts";
import { levelsBound, quantizeCheck } from "../../../src/run/checks/quantize_check.ts";
import type { Scratch } from "../../../src/run/scratch.ts";

const cpu: CheckKernels = {
  kernels: referenceKernels,
  linalg: referenceLinalg,
  memory: () => ({ ...HEAP, u8: (count: number) => new Uint8Array(count) } as Scratch),
};

function normal(length: number, name: string): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, randomFor(1, name));
  return values;
}

const take = (count: number) => new Uint8Array(count);

/** Rounds rows of `x`, with scales that reach their largest values, to nearest. */
function roundedRows(x: Float32Array, cols: number, tables: LevelTables) {
  const rows = x.length / cols, grid = { rows, cols, groupRows: 1, groupCols: cols };
  const scales = new Float32Array(rows), codes = new Int8Array(x.length);
  const choices = new Uint8Array(x.length / tables.groupCols), rounding = tables.rounding!;
  referenceKernels.absmax(scales, x, grid);
  referenceKernels.scaleFromAbsmax(scales, scales);
  if (rounding.kind === "table") {
    referenceKernels.roundToTable(codes, choices, x, scales, grid, rounding);
  } else referenceKernels.roundToSteps(codes, choices, x, scales, grid, rounding);
  return { grid, scales, codes, choices };
}

for (const bits of [4, 6] as const) {
  const scheme = groupedLevels({ bits, groupCols: 16 }), tables = levelTables(scheme, take);
  const rounding = tables.rounding!;

  Deno.test(`quantizeCheck() finds a level or a set that is another: ${bits} bits`, () => {
    const x = normal(8 * 64, "x");
    const { grid, scales, codes, choices } = roundedRows(x, 64, tables);
    const check = quantizeCheck({
      ...{ name: "w", raw: new Uint8Array(x.buffer), dtype: "F32", changes: [], grid },
      ...{ convrotGroupSize: null, scaleSearch: false, isFirst: true, scales, codes },
      levels: { rounding, choices },
    });
    assert.equal(check.verify(cpu), null);
    choices[9]! ^= 1;
    assert.match(check.verify(cpu)!, /sets of levels of row 2 \(at 1 /);
    choices[9]! ^= 1;
    codes[130]! ^= 1;
    assert.match(check.verify(cpu)!, /codes of row 2 \(at 2 /);
  });

  for (const groupCols of [16, 64, 256]) {
    const own = groupedLevels({ bits, groupCols }), ownTables = levelTables(own, take);
    Deno.test(`levelsBound() holds what rounding leaves, and not zeros: ${bits} bits, groups of ${groupCols}`, () => {
      for (let row = 0; row < 20; row++) {
        const x = normal(512, `row ${row}`);
        // Some have values that stand out.
        if (row % 2 === 0) x[5] = 3 * row;
        const { scales, codes } = roundedRows(x, 512, ownTables);
        const errorOf = (code: (i: number) => number) =>
          x.reduce((sum, value, i) => sum + (value - code(i) * scales[0]!) ** 2, 0);
        const bound = levelsBound(own, scales, 512, true);
        assert(errorOf((i) => codes[i]!) <= bound);
        if (row % 2 === 1) {
          assert(errorOf(() => 0) > bound, "zeros");
          assert(errorOf((i) => codes[i ^ 1]!) > bound, "neighbours' codes");
        }
      }
    });
  }

  Deno.test(`ldlqCheck() accepts compensated levels and refuses others: ${bits} bits`, () => {
    const size = 192, rows = 4, values = new Float64Array(size * size);
    const inputs = normal(3 * size * size, "inputs");
    for (let t = 0; t < inputs.length; t += size) {
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) {
          const a = inputs[t + i]! + 2 * inputs[t]!, b = inputs[t + j]! + 2 * inputs[t]!;
          values[i * size + j]! += a * b / 3 / size;
        }
      }
    }
    const context = soloContext(referenceLinalg, HEAP);
    const hessian = { size, blockSize: size, values, source: "activations" as const };
    const factor = prepareGptq(context, hessian, { actOrder: true, unitCols: 16, damping: 0.01 });
    const given = normal(rows * size, "weights"), weights = given.slice();
    const plain = roundedRows(given, size, tables), choices = plain.choices.slice();
    const codes = new Int8Array(given.length);
    const search = { ...tables, spare: new Float32Array(8 * 16) };
    const { scales, grid } = plain;
    const all = {
      ...{ weights, codes, scales, grid, firstRow: 0, layerRow: 0, errors: false },
      levels: { ...tables, choices, search },
    };
    const layer = { name: "w", factor, storage: "f32" as const, isFirst: true };
    const check = ldlqCheck(layer, all, rows)!;
    check.prepare!();
    gptqRows(context, factor, all);
    assert.equal(check.verify(cpu), null);
    const right = { codes: codes.slice(), choices: choices.slice() };
    codes.set(plain.codes);
    choices.set(plain.choices);
    assert.match(
      check.verify(cpu)!,
      /(code -?\d+ for|set \d+, which) .* in row \d of "w"/,
      "to nearest",
    );
    // Of a layer that is not the first of its kind less is looked at.
    const few = ldlqCheck({ ...layer, isFirst: false }, all, rows)!;
    weights.set(given);
    few.prepare!();
    assert.match(few.verify(cpu)!, /(code|set) .* in row \d of "w"/, "to nearest, few");
    codes.set(right.codes);
    choices.set(right.choices);
    assert.equal(check.verify(cpu), null);
    assert.equal(few.verify(cpu), null);
    // Levels that are right for sets which are not those of least error.
    choices.fill(126);
    weights.set(given);
    gptqRows(context, factor, { ...all, levels: { ...all.levels, search: null } });
    assert.match(check.verify(cpu)!, /set 126, which leaves/);
  });
}

Deno.test("quantizeCheck() looks at rows that a pair changes, be they ever so few", () => {
  const rows = 4096, cols = 16, grid = { rows, cols, groupRows: 1, groupCols: cols };
  const x = normal(rows * cols, "x"), codes = new Int8Array(x.length);
  const pair = { firstRow: 1234, rank: 1, b: Float32Array.of(1), a: normal(cols, "a") };
  const scales = new Float32Array(rows);
  const round = (from: Float32Array) => {
    referenceKernels.absmax(scales, from, grid);
    referenceKernels.scaleFromAbsmax(scales, scales);
    referenceKernels.quantize(codes, from, scales, grid);
  };
  const check = quantizeCheck({
    ...{ name: "w", raw: new Uint8Array(x.buffer), dtype: "F32", changes: [pair], grid },
    ...{ convrotGroupSize: null, scaleSearch: false, isFirst: false, scales, codes, levels: null },
  });
  const merged = x.slice(), own = merged.subarray(1234 * cols, 1235 * cols);
  referenceLinalg.addLowRank(own, pair.b, pair.a, { rows: 1, cols, rank: 1 });
  round(merged);
  assert.equal(check.verify(cpu), null);
  round(x);
  assert.match(check.verify(cpu)!, /of row 1234 /);
});
