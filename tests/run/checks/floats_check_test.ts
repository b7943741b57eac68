import assert from "node:assert/strict";
import { FLOAT_GROUP_COLS, type FloatRounding } from "../../../src/backend/backend.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { fillNormal, randomFor } from "../../../src/core/rng.ts";
import { HEAP } from "../../../src/linalg/context.ts";
import { wholeScale } from "../../../src/quant/float_grid.ts";
import { levelTables } from "../../../src/quant/level_grid.ts";
import { floatValues } from "../../../src/run/chunks/floats_on_gpu.ts";
import { oneSet, roundToOneSet } from "../../../src/run/chunks/level_scales.ts";
import { floatsBound, floatsCheck } from "../../../src/run/checks/floats_check.ts";
import type { CheckKernels } from "../../../src/run/checks/gpu_check.ts";
import { levelsBound, quantizeCheck } from "../../../src/run/checks/quantize_check.ts";
import type { Scratch } from "../../../src/run/scratch.ts";

const scratch = { ...HEAP, u8: (count: number) => new Uint8Array(count) } as Scratch;
const cpu: CheckKernels = {
  kernels: referenceKernels,
  linalg: referenceLinalg,
  memory: () => scratch,
};

const KINDS = ["e4m3", "e4m3Groups", "e2m1Groups"] as const;

function normal(length: number, name: string): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, randomFor(1, name));
  return values;
}

function largest(x: Float32Array): number {
  return x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** Rounds `x` with the scale of a whole weight that reaches `absmax`. */
function rounded(x: Float32Array, kind: FloatRounding["kind"], absmax = largest(x)) {
  const rounding = { kind, scale: wholeScale(kind, absmax), search: true };
  const codes = new Uint8Array(x.length / (kind === "e2m1Groups" ? 2 : 1));
  const groupScales = new Uint8Array(x.length / (FLOAT_GROUP_COLS[kind] ?? Infinity));
  const values = new Float32Array(x.length);
  referenceKernels.roundFloats(codes, groupScales, values, x, rounding);
  return { rounding, codes, groupScales, values };
}

function squaredError(x: Float32Array, valueOf: (i: number) => number): number {
  return x.reduce((sum, value, i) => sum + (value - valueOf(i)) ** 2, 0);
}

for (const kind of KINDS) {
  Deno.test(`floatsCheck() finds a code or a scale that is another: ${kind}`, () => {
    const rows = 8, cols = 64, x = normal(rows * cols, "x");
    const { rounding, codes, groupScales } = rounded(x, kind);
    const check = floatsCheck({
      ...{ name: "w", raw: new Uint8Array(x.buffer), dtype: "F32", changes: [], isFirst: true },
      ...{ rows, cols, rounding, codes, groupScales },
    });
    assert.equal(check.verify(cpu), null);
    const rowBytes = codes.length / rows;
    codes[2 * rowBytes + 3]! ^= 1;
    assert.match(check.verify(cpu)!, /codes of row 2 \(at 3 .* of w/);
    codes[2 * rowBytes + 3]! ^= 1;
    if (groupScales.length === 0) return;
    groupScales[5 * groupScales.length / rows + 1]! ^= 1;
    assert.match(check.verify(cpu)!, /scales of row 5 \(at 1 .* of w/);
  });

  Deno.test(`floatValues() gives the values of roundFloats(): ${kind}`, () => {
    const x = normal(640, "x").map((value, i) => value * 2 ** -(i >> 4));
    const { rounding, codes, groupScales, values } = rounded(x, kind);
    const own = new Float32Array(x.length);
    floatValues(own, codes, groupScales, rounding);
    // But for the sign of zeros.
    assert.deepEqual(own.map((value) => value + 0), values.map((value) => value + 0));
  });

  Deno.test(`floatsBound() holds what rounding leaves, and not zeros or others' codes: ${kind}`, () => {
    for (let round = 0; round < 20; round++) {
      const x = normal(512, `round ${round}`).map((value) => value / 50);
      // Some have values that stand out, and the weight has larger ones elsewhere.
      if (round % 4 === 0) x[5] = round;
      const absmax = largest(x) * (round % 3 === 0 ? 40 : 1);
      const { rounding, codes, groupScales } = rounded(x, kind, absmax);
      const values = new Float32Array(x.length);
      const scaleSquares = floatValues(values, codes, groupScales, rounding);
      const squares = squaredError(x, () => 0), count = x.length;
      const bound = floatsBound(rounding, { count, squares, scaleSquares });
      assert(squaredError(x, (i) => values[i]!) <= bound);
      if (round % 4 === 0) continue;
      assert(squares > bound, "zeros");
      assert(squaredError(x, (i) => values[i ^ 2]!) > bound, "neighbours' codes");
    }
  });

  Deno.test(`floatsBound() holds groups far below the largest value: ${kind}`, () => {
    for (let exponent = 0; exponent < 30; exponent++) {
      const x = normal(512, `${exponent}`).map((value) => value * 2 ** -exponent);
      const { rounding, codes, groupScales } = rounded(x, kind, 4);
      const values = new Float32Array(x.length);
      const scaleSquares = floatValues(values, codes, groupScales, rounding);
      const squares = squaredError(x, () => 0), count = x.length;
      const error = squaredError(x, (i) => values[i]!);
      assert(error <= floatsBound(rounding, { count, squares, scaleSquares }), `${exponent}`);
    }
  });
}

for (const search of [false, true]) {
  const scheme = { kind: "int4", bits: 4 } as const;
  const tables = levelTables(scheme, (count) => new Uint8Array(count));
  const rounding = oneSet(tables, search), rows = 8, cols = 64, count = rows * cols;
  const grid = { rows, cols, groupRows: 1, groupCols: cols };
  const of = (x: Float32Array) => {
    const scales = new Float32Array(rows), codes = new Int8Array(count);
    const choices = new Uint8Array(count / rounding.groupCols);
    referenceKernels.absmax(scales, x, grid);
    roundToOneSet(
      { kernels: referenceKernels, scratch },
      { x, codes, scales, choices, grid },
      rounding,
    );
    return { scales, codes, choices };
  };
  const name = search ? "with a search" : "without one";

  Deno.test(`quantizeCheck() finds another code or scale of 15 levels: ${name}`, () => {
    const x = normal(count, "x"), { scales, codes, choices } = of(x);
    const check = quantizeCheck({
      ...{ name: "w", raw: new Uint8Array(x.buffer), dtype: "F32", changes: [], grid },
      ...{ convrotGroupSize: null, scaleSearch: search, isFirst: true, scales, codes },
      levels: { rounding, choices },
    });
    assert.equal(check.verify(cpu), null);
    codes[130]! ^= 1;
    assert.match(check.verify(cpu)!, /codes of row 2 \(at 2 /);
    codes[130]! ^= 1;
    scales[3]! *= 1.5;
    assert.match(check.verify(cpu)!, /scales of row 3 /);
  });

  Deno.test(`levelsBound() holds what 15 levels leave, and not zeros: ${name}`, () => {
    for (let round = 0; round < 10; round++) {
      const x = normal(count, `round ${round}`);
      if (round % 2 === 0) x[5] = 3 * round;
      const { scales, codes } = of(x), bound = levelsBound(scheme, scales, cols, search);
      const scale = (i: number) => scales[Math.floor(i / cols)]!;
      assert(squaredError(x, (i) => codes[i]! * scale(i)) <= bound);
      if (round % 2 === 0) continue;
      assert(squaredError(x, () => 0) > bound, "zeros");
      assert(squaredError(x, (i) => codes[i ^ 1]! * scale(i)) > bound, "neighbours' codes");
    }
  });
}
