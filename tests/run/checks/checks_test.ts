import assert from "node:assert/strict";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { fillNormal, randomFor } from "../../../src/core/rng.ts";
import { HEAP, soloContext } from "../../../src/linalg/context.ts";
import { matrix, transpose } from "../../../src/linalg/matrix.ts";
import { type GptqFactor, gptqRows, prepareGptq } from "../../../src/quant/gptq.ts";
import { fillColumnGroups } from "../../../src/quant/learned/layer.ts";
import { OutputLoss } from "../../../src/quant/learned/output.ts";
import { DescentCheck } from "../../../src/run/checks/descent_check.ts";
import { type CheckKernels, type GpuCheck, spread } from "../../../src/run/checks/gpu_check.ts";
import { ldlqCheck } from "../../../src/run/checks/ldlq_check.ts";
import { measureCheck } from "../../../src/run/checks/measure_check.ts";
import { MomentsCheck } from "../../../src/run/checks/moments_check.ts";
import { gemmF32Check, gemmI8Check, hadamardCheck } from "../../../src/run/checks/product_check.ts";
import { quantizeCheck, roundingBound } from "../../../src/run/checks/quantize_check.ts";
import type { Scratch } from "../../../src/run/scratch.ts";

const cpu: CheckKernels = {
  kernels: referenceKernels,
  linalg: referenceLinalg,
  memory: () => ({
    ...HEAP,
    u8: (count: number) => new Uint8Array(count),
    u16: (count: number) => new Uint16Array(count),
    u32: (count: number) => new Uint32Array(count),
  } as Scratch),
};

function normal(length: number, name: string): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, randomFor(1, name));
  return values;
}

/** The verdicts of a check on work that is done right, and on the same work with something changed after it. */
function verdicts(check: GpuCheck, work: () => void, change: () => void): (string | null)[] {
  check.prepare?.();
  work();
  const right = check.verify(cpu);
  change();
  return [right, check.verify(cpu)];
}

Deno.test("spread() takes the first, the last, and one of every part, the same ones each time", () => {
  const found = spread(1000, 12, randomFor(1, "a"));
  assert.deepEqual(found, spread(1000, 12, randomFor(1, "a")));
  assert.equal(found[0], 0);
  assert.equal(found.at(-1), 999);
  assert(found.length >= 10 && found.length <= 12);
  assert.deepEqual(spread(3, 12, randomFor(1, "a")), [0, 1, 2]);
  assert.equal(spread(1000, 1, randomFor(1, "a")).length, 1);
});

Deno.test("quantizeCheck() finds a scale or a code that differs in a bit", () => {
  const grid = { rows: 8, cols: 64, groupRows: 1, groupCols: 64 };
  const x = normal(512, "x"), raw = new Uint8Array(x.slice().buffer);
  const pair = { firstRow: 2, rank: 3, b: normal(9, "b"), a: normal(192, "a") };
  const codes = new Int8Array(512), scales = new Float32Array(8);
  const rect = {
    ...{ name: "w", raw, dtype: "F32" as const, changes: [pair], grid, convrotGroupSize: 16 },
    ...{ scaleSearch: true, codes, scales, levels: null, isFirst: true },
  };
  const work = () => {
    const rows = x.slice();
    referenceLinalg.addLowRank(rows.subarray(128, 320), pair.b, pair.a, {
      rows: 3,
      cols: 64,
      rank: 3,
    });
    referenceKernels.rotate(rows, 16);
    referenceKernels.absmax(scales, rows, grid);
    referenceKernels.scaleFromAbsmax(scales, scales);
    referenceKernels.searchScale(scales, rows, grid);
    referenceKernels.quantize(codes, rows, scales, grid);
  };
  const [right, wrong] = verdicts(quantizeCheck(rect), work, () => codes[130]! ^= 1);
  assert.equal(right, null);
  assert.match(wrong!, /codes of row 2 \(at 2 /);
  const scale = verdicts(quantizeCheck(rect), work, () => scales[5]! *= 1.0001);
  assert.match(scale[1]!, /scales of row 5/);
});

Deno.test("quantizeCheck() adds changes in integers again, to whichever rows it looks at", () => {
  const grid = { rows: 16, cols: 64, groupRows: 1, groupCols: 64 }, rows = 11, terms = 5;
  const x = normal(1024, "x"), raw = new Uint8Array(x.slice().buffer);
  const short = (lines: number) => ({
    pairs: new Int32Array(lines * 3),
    scales: new Float32Array(lines),
  });
  const left = short(12), right = short(64);
  referenceLinalg.packErrors(left, matrix(normal(rows * terms, "b"), rows, terms));
  referenceLinalg.packFactor(right, matrix(normal(terms * 64, "a"), terms, 64));
  const codes = new Int8Array(1024), scales = new Float32Array(16);
  const changes = [{ firstRow: 3, rows, terms, left, right }];
  const rect = {
    ...{ name: "w", raw, dtype: "F32" as const, changes, grid, convrotGroupSize: null },
    ...{ scaleSearch: false, codes, scales, levels: null, isFirst: true },
  };
  const work = () => {
    const sum = new Float32Array(12 * 64);
    sum.set(x.subarray(3 * 64, 14 * 64));
    referenceLinalg.feedBack(matrix(sum, 12, 64), left, right, terms, true);
    const all = x.slice();
    all.set(sum.subarray(0, rows * 64), 3 * 64);
    referenceKernels.absmax(scales, all, grid);
    referenceKernels.scaleFromAbsmax(scales, scales);
    referenceKernels.quantize(codes, all, scales, grid);
  };
  for (const row of [3, 7, 13]) {
    const [right, wrong] = verdicts(quantizeCheck(rect), work, () => codes[row * 64 + 9]! ^= 1);
    assert.equal(right, null);
    assert.match(wrong!, new RegExp(`codes of row ${row} \\(at 9 `));
  }
});

Deno.test("roundingBound() holds what rounding leaves, and nothing that is off by two codes", () => {
  const x = normal(4096, "x"), grid = { rows: 1, cols: 4096, groupRows: 1, groupCols: 4096 };
  const scales = new Float32Array(1), codes = new Int8Array(4096), xhat = new Float32Array(4096);
  for (const search of [false, true]) {
    referenceKernels.absmax(scales, x, grid);
    referenceKernels.scaleFromAbsmax(scales, scales);
    if (search) referenceKernels.searchScale(scales, x, grid);
    referenceKernels.quantize(codes, x, scales, grid);
    const errorOf = () => {
      referenceKernels.dequantize(xhat, codes, scales, grid);
      return x.reduce((sum, value, i) => sum + (value - xhat[i]!) ** 2, 0);
    };
    const bound = roundingBound(scales, 4096, search);
    assert(errorOf() <= bound);
    codes.forEach((code, i) => codes[i] = code + (code < 0 ? 2 : -2));
    assert(errorOf() > bound);
  }
});

Deno.test("gemmF32Check() and gemmI8Check() allow rounding, and find what is not computed", () => {
  const [m, n, k] = [9, 7, 40];
  const a = matrix(normal(m * k, "a"), m, k), b = transpose(matrix(normal(n * k, "b"), n, k));
  const c = matrix(normal(m * n, "c"), m, n), before = c.data.slice();
  const half = () => c.data.set(before.subarray(0, m * n / 2));
  const work = () => referenceLinalg.gemmF32(c, a, b, "subtract");
  const [right, wrong] = verdicts(gemmF32Check(c, a, b, "subtract"), work, half);
  assert.equal(right, null);
  assert.match(wrong!, /a product of 9 x 40 by 40 x 7 wrong/);
  const p = Int8Array.from(normal(m * k, "p"), (v) => 40 * v);
  const q = Int8Array.from(normal(n * k, "q"), (v) => 40 * v);
  const out = new Int32Array(m * n);
  const int8 = verdicts(
    gemmI8Check(out, p, q, { m, n, k }),
    () => referenceLinalg.gemmI8(out, p, q, m, n, k),
    () => out.reverse(),
  );
  assert.equal(int8[0], null);
  assert.match(int8[1]!, /int8 product/);
});

for (const along of ["rows", "columns"] as const) {
  Deno.test(`hadamardCheck() finds ${along} that are transformed another way`, () => {
    const x = matrix(normal(8 * 8, "x"), 8, 8);
    const work = () =>
      along === "rows" ? referenceLinalg.hadamardRows(x) : referenceLinalg.hadamardColumns(x);
    const [right, wrong] = verdicts(hadamardCheck(x, along), work, () => x.data.reverse());
    assert.equal(right, null);
    assert.match(wrong!, /a transform of 8 lines wrong/);
  });
}

Deno.test("MomentsCheck finds sums that lack some rows", () => {
  const [rows, size] = [30, 20], x = normal(rows * size, "x"), sums = new Float64Array(size * size);
  const check = new MomentsCheck("a", size, sums);
  check.add(x.subarray(0, 200));
  check.add(x.subarray(200));
  const sum = (from: number) => {
    sums.fill(0);
    for (let t = from; t < rows; t++) {
      for (let i = 0; i < size; i++) {
        for (let j = 0; j <= i; j++) sums[i * size + j]! += x[t * size + i]! * x[t * size + j]!;
      }
    }
  };
  sum(0);
  assert.equal(check.verify(), null);
  sum(1);
  assert.match(check.verify()!, /second moments of a wrong/);
});

function factorOf(size: number): GptqFactor {
  const x = normal(3 * size * size, "inputs"), values = new Float64Array(size * size);
  for (let t = 0; t < x.length; t += size) {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const a = x[t + i]! + 2 * x[t]!, b = x[t + j]! + 2 * x[t]!;
        values[i * size + j]! += a * b / 3 / size;
      }
    }
  }
  const hessian = { size, blockSize: size, values, source: "activations" as const };
  return prepareGptq(soloContext(referenceLinalg, HEAP), hessian, {
    actOrder: true,
    damping: 0.01,
  });
}

Deno.test("ldlqCheck() accepts compensated codes and refuses those of rounding to nearest", () => {
  const size = 48, rows = 6, factor = factorOf(size), weights = normal(rows * size, "weights");
  const scales = new Float32Array(rows).fill(0.05), codes = new Int8Array(rows * size);
  const given = weights.slice();
  const grid = { rows, cols: size, groupRows: 1, groupCols: size };
  const all = { weights, codes, scales, grid, firstRow: 0, layerRow: 0, errors: true };
  const layer = { name: "w", factor, storage: "f32" as const, isFirst: true };
  const check = ldlqCheck(layer, all, rows)!;
  const work = () => gptqRows(soloContext(referenceLinalg, HEAP), factor, all);
  const nearest = () => {
    given.forEach((w, i) => codes[i] = Math.round(w / 0.05));
    given.forEach((w, i) => weights[i] = w - Math.fround(codes[i]! * scales[0]!));
  };
  const [right, wrong] = verdicts(check, work, nearest);
  assert.equal(right, null);
  assert.match(wrong!, /code -?\d+ for .* in row \d of "w"/);
  work();
  assert.equal(ldlqCheck({ ...layer, isFirst: false }, { ...all, layerRow: 5000 }, 6000), null);
});

Deno.test("DescentCheck follows a search, and finds decisions and reports that are wrong", () => {
  const [rows, cols] = [5, 32],
    values = new Float32Array(cols * cols),
    x = normal(cols * cols, "h");
  for (let i = 0; i < cols; i++) {
    for (let j = 0; j < cols; j++) {
      for (let t = 0; t < cols; t++) values[i * cols + j]! += x[t * cols + i]! * x[t * cols + j]!;
    }
  }
  const grid = { rows, cols, groupRows: 1, groupCols: cols };
  const scales = new Float32Array(rows).fill(0.75);
  const columnGroups = fillColumnGroups(new Int32Array(cols), grid);
  const moments = { size: cols, blockSize: cols, values };
  const errors = normal(rows * cols, "e").map((e) => 0.3 * Math.max(-1, Math.min(1, e)));
  const codes = new Int8Array(rows * cols);
  const layer = { grid, codes, errors: matrix(errors, rows, cols), scales, columnGroups };
  const loss = new OutputLoss(soloContext(referenceLinalg, HEAP), layer, moments, false);
  const gradient = new Float32Array(rows * cols);
  referenceLinalg.gemmF32(
    matrix(gradient, rows, cols),
    layer.errors,
    matrix(values, cols, cols),
    "set",
  );
  const follow = () => {
    const check = new DescentCheck({ name: "w", grid, scales, columnGroups }, moments);
    assert.equal(check.measured(errors, gradient).verify(cpu), null);
    return check;
  };
  const panel = { first: 0, cols, codes, errors, penalty: 1 }, totals = new Float64Array(3);
  const work = () => {
    loss.measure();
    const { count, cost } = loss.descend(0, cols, 1);
    totals.set([count, 0, cost]);
  };
  const [start, startCodes] = [errors.slice(), codes.slice()];
  const again = () => {
    errors.set(start);
    codes.set(startCodes);
  };
  assert.equal(verdicts(follow().descended(panel, totals), work, () => {})[0], null);
  assert(totals[0]! > 20, `${totals[0]} moves`);
  again();
  const miscounted = follow().descended(panel, totals);
  miscounted.prepare!();
  work();
  totals[0]!++;
  assert.match(miscounted.verify(cpu)!, /a count of/);
  again();
  const lazy = follow().descended(panel, totals);
  lazy.prepare!();
  totals.fill(0);
  assert.match(lazy.verify(cpu)!, /no move that pays/);
  const off = new DescentCheck({ name: "w", grid, scales, columnGroups }, moments);
  gradient.reverse();
  assert.match(off.measured(errors, gradient).verify(cpu)!, /a gradient of/);
});

Deno.test("measureCheck() finds sums that are not those of the outputs", () => {
  const [m, n, k] = [4, 6, 32], weights = normal(n * k, "w"), inputs = normal(m * k, "x");
  const codes = Int8Array.from(weights, (w) => Math.round(w / 0.05));
  const scales = new Float32Array(n).fill(0.05);
  const difference = weights.map((w, i) => w - codes[i]! * 0.05);
  let signal = 0, error = 0;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let y = 0, e = 0;
      for (let t = 0; t < k; t++) {
        y += inputs[i * k + t]! * weights[j * k + t]!;
        e += inputs[i * k + t]! * difference[j * k + t]!;
      }
      signal += y * y;
      error += e * e;
    }
  }
  const sums = Float64Array.of(signal, error, 0);
  const rows = { name: "w", weights, difference, inputs, cols: k, stored: null, sums };
  assert.equal(measureCheck(rows, true)!.verify(cpu), null);
  sums[1]! *= 1.01;
  assert.match(measureCheck(rows, true)!.verify(cpu)!, /errors of outputs of w wrong/);
  const grid = { rows: n, cols: k, groupRows: 1, groupCols: k };
  const stored = { codes, scales, grid, convrotGroupSize: null };
  // Int8 inputs add about 1 % here: a sum of nothing is wrong.
  sums.set([signal, error, 0]);
  assert.match(measureCheck({ ...rows, stored }, true)!.verify(cpu)!, /\(0 instead of/);
});
