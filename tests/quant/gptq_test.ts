import assert from "node:assert/strict";
import type { Grid } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { createSharedMemory, LINALG_WORKSPACE_BYTES } from "../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../src/backend/cpu/linalg_module.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import type { Hessian } from "../../src/linalg/hessian.ts";
import { hessianFromChannels } from "../../src/linalg/hessian_sources.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { createTeamControl } from "../../src/linalg/team.ts";
import { gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { put, testEachContext } from "../linalg/contexts.ts";
import { outputError, plainLdlq, positiveDefinite, weights } from "../linalg/matrices.ts";
import { hessianOfInputs } from "../linalg/whole_hessian.ts";
import { GptqTeam } from "../support/gptq_team.ts";
import { gptqLayer } from "./gptq_layer.ts";

const rowGrid = (rows: number, cols: number): Grid => ({
  rows,
  cols,
  groupRows: 1,
  groupCols: cols,
});

function absmaxScales(w: Float32Array, grid: Grid): Float32Array {
  const { rows, cols, groupRows, groupCols } = grid;
  const scales = new Float32Array((rows / groupRows) * (cols / groupCols));
  referenceKernels.absmax(scales, w, grid);
  referenceKernels.scaleFromAbsmax(scales, scales);
  return scales;
}

function nearest(w: Float32Array, scales: Float32Array, grid: Grid): Int8Array {
  const codes = new Int8Array(w.length);
  referenceKernels.quantize(codes, w, scales, grid);
  return codes;
}

function full(context: LinalgContext, values: Float64Array, size: number): Hessian {
  return { size, blockSize: size, values: put(context.memory, values), source: "hessian" };
}

const plain = { actOrder: false, damping: 0.1, convrotGroupSize: null };

testEachContext(
  "gptqRows() gives the codes of f64 rounding on the damped Hessian",
  (context) => {
    const n = 96, rows = 10, w = weights(1, rows * n), h = positiveDefinite(2, n);
    const grid = rowGrid(rows, n), scales = absmaxScales(w, grid);
    const codes = context.memory.i8(w.length), errors = put(context.memory, w);
    const report = gptqLayer(context, {
      ...plain,
      weights: errors,
      codes,
      grid,
      scales: put(context.memory, scales),
      hessian: full(context, h, n),
    });
    assert.deepEqual(report, {
      damping: 0.1,
      dampingRaised: false,
      deadChannels: 0,
      fallback: null,
    });
    let trace = 0;
    for (let i = 0; i < n; i++) trace += h[i * (n + 1)]!;
    const damped = h.map((value, i) => i % (n + 1) === 0 ? value + 0.1 * trace / n : value);
    assert.deepEqual(codes.slice(), plainLdlq(w, damped, n, (r) => scales[r]!));
    assert.equal(errors[5], Math.fround(w[5]! - Math.fround(codes[5]! * scales[0]!)));
  },
);

testEachContext(
  "gptqRows() with actOrder is rounding of reordered columns, by their own scales",
  (context) => {
    const n = 96, rows = 8, w = weights(3, rows * n), h = positiveDefinite(4, n);
    const grid: Grid = { rows, cols: n, groupRows: 4, groupCols: 32 };
    const scales = absmaxScales(w, grid), codes = context.memory.i8(w.length);
    gptqLayer(context, {
      ...plain,
      actOrder: true,
      weights: put(context.memory, w),
      codes,
      grid,
      scales: put(context.memory, scales),
      hessian: full(context, h, n),
    });
    let trace = 0;
    for (let i = 0; i < n; i++) trace += h[i * (n + 1)]!;
    const order = Array.from({ length: n }, (_, i) => i)
      .sort((a, b) => h[a * (n + 1)]! - h[b * (n + 1)]! || a - b);
    const damped = Float64Array.from(h, (_, i) => {
      const row = Math.floor(i / n), col = i % n;
      return h[order[row]! * n + order[col]!]! + (row === col ? 0.1 * trace / n : 0);
    });
    const moved = Float32Array.from(w, (_, i) => w[Math.floor(i / n) * n + order[i % n]!]!);
    const want = plainLdlq(
      moved,
      damped,
      n,
      (r, k) => scales[Math.floor(r / 4) * 3 + Math.floor(order[k]! / 32)]!,
    );
    want.forEach((code, i) => {
      assert.equal(codes[Math.floor(i / n) * n + order[i % n]!], code, `at ${i}`);
    });
  },
);

testEachContext(
  "gptqRows() rounds to nearest, and says why, if a Hessian cannot be used",
  (context) => {
    const n = 40, rows = 5, w = weights(5, rows * n), grid = rowGrid(rows, n);
    const scales = absmaxScales(w, grid), want = nearest(w, scales, grid);
    const indefinite = new Float64Array(n * n).fill(100);
    for (let i = 0; i < n; i++) indefinite[i * (n + 1)] = 1;
    const poisoned = positiveDefinite(6, n);
    poisoned[3 * n + 2] = poisoned[2 * n + 3] = NaN;
    const negative = positiveDefinite(6, n);
    negative[0] = -1;
    const hessians: [Hessian, RegExp][] = [
      [full(context, new Float64Array(n * n), n), /the Hessian is zero/],
      [full(context, indefinite, n), /not positive definite, not even damped by 10/],
      [full(context, poisoned, n), /not positive definite, not even damped by 10/],
      [full(context, negative, n), /not positive semidefinite, or too large/],
      [
        hessianFromChannels(new Float32Array(n).fill(2), context.memory.f64(n)),
        /the Hessian is diagonal, so there is nothing to compensate/,
      ],
    ];
    for (const [hessian, reason] of hessians) {
      for (const actOrder of [false, true]) {
        const codes = context.memory.i8(w.length);
        const report = gptqLayer(context, {
          ...plain,
          actOrder,
          weights: put(context.memory, w),
          codes,
          grid,
          scales: put(context.memory, scales),
          hessian,
        });
        assert.match(report.fallback!, reason);
        assert.equal(report.damping, null);
        assert.deepEqual(codes.slice(), want);
      }
    }
  },
);

testEachContext("gptqRows() rounds weights of dead channels plainly", (context) => {
  const n = 33, rows = 4, w = weights(7, rows * n), h = positiveDefinite(8, n), dead = [0, 7, 32];
  for (const channel of dead) {
    for (let j = 0; j < n; j++) h[channel * n + j] = h[j * n + channel] = 0;
  }
  const grid = rowGrid(rows, n),
    scales = absmaxScales(w, grid),
    codes = context.memory.i8(w.length);
  const report = gptqLayer(context, {
    ...plain,
    weights: put(context.memory, w),
    codes,
    grid,
    scales: put(context.memory, scales),
    hessian: full(context, h, n),
  });
  assert.equal(report.deadChannels, 3);
  const want = nearest(w, scales, grid);
  for (let r = 0; r < rows; r++) {
    for (const channel of dead) assert.equal(codes[r * n + channel], want[r * n + channel]);
  }
});

testEachContext(
  "gptqRows() on a rotated diagonal lowers the error that the diagonal measures",
  (context) => {
    const n = 128, rows = 16, groupSize = 64, grid = rowGrid(rows, n);
    const magnitudes = Float32Array.from({ length: n }, (_, i) => i % 20 === 3 ? 20 : 1 + i % 3);
    const w = weights(9, rows * n), rotated = w.slice();
    referenceKernels.rotate(rotated, groupSize);
    const scales = absmaxScales(rotated, grid), codes = context.memory.i8(w.length);
    const errors = put(context.memory, rotated);
    const report = gptqLayer(context, {
      ...plain,
      weights: errors,
      codes,
      grid,
      scales: put(context.memory, scales),
      hessian: hessianFromChannels(magnitudes, context.memory.f64(n)),
      convrotGroupSize: groupSize,
    });
    assert.equal(report.fallback, null);
    const h = new Float64Array(n * n);
    magnitudes.forEach((magnitude, i) => h[i * (n + 1)] = magnitude ** 2);
    const original = (e: Float32Array) => {
      const back = e.slice();
      referenceKernels.rotate(back, groupSize);
      return outputError(back, h, n);
    };
    const dequantized = new Float32Array(w.length);
    referenceKernels.dequantize(dequantized, nearest(rotated, scales, grid), scales, grid);
    const ratio = original(errors.slice()) / original(rotated.map((x, i) => x - dequantized[i]!));
    assert(ratio < 0.6, `squared error ${ratio} of that of rounding to nearest`);
  },
);

testEachContext("gptqRows() gives the same bits for any split of the rows", (context) => {
  const n = 64, rows = 37, w = weights(10, rows * n), grid = { ...rowGrid(rows, n), groupCols: 16 };
  const scales = put(context.memory, absmaxScales(w, grid));
  for (const actOrder of [false, true]) {
    const hessian = full(context, positiveDefinite(11, n), n);
    const factor = prepareGptq(context, hessian, { actOrder, damping: 0.1 });
    const [whole, parts] = [[rows], [1, 20, 16]].map((heights) => {
      const codes = context.memory.i8(w.length), errors = put(context.memory, w);
      let firstRow = 0;
      for (const height of heights) {
        const from = firstRow * n, to = from + height * n;
        gptqRows(context, factor, {
          weights: errors.subarray(from, to),
          codes: codes.subarray(from, to),
          firstRow,
          grid,
          scales,
        });
        firstRow += height;
      }
      return { codes, errors };
    });
    assertSameBits(parts!.codes, whole!.codes, "codes");
    assertSameBits(parts!.errors, whole!.errors, "errors");
    const codes = context.memory.i8(w.length), weights = put(context.memory, w);
    gptqRows(context, factor, { weights, codes, firstRow: 0, grid, scales, errors: false });
    assertSameBits(codes, whole!.codes, "codes without errors");
  }
});

testEachContext(
  "gptqRows() takes layers of one row, of one column, and of no row",
  (context) => {
    for (const [rows, n] of [[1, 50], [6, 1], [1, 1], [0, 4]] as const) {
      const w = weights(12, rows * n), grid = rowGrid(rows, n), scales = absmaxScales(w, grid);
      const codes = context.memory.i8(w.length);
      gptqLayer(context, {
        ...plain,
        actOrder: true,
        weights: put(context.memory, w),
        codes,
        grid,
        scales: put(context.memory, scales),
        hessian: full(context, positiveDefinite(13, n), n),
      });
      codes.forEach((code, i) => {
        assert(Math.abs(code - w[i]! / scales[Math.floor(i / n)]!) < 40, `${rows} x ${n} at ${i}`);
      });
    }
  },
);

testEachContext("gptqRows() takes fewer inputs than channels", (context) => {
  const n = 60, rows = 6, w = weights(14, rows * n), grid = rowGrid(rows, n);
  const x = matrix(put(context.memory, weights(15, 3 * n)), 3, n);
  const report = gptqLayer(context, {
    ...plain,
    damping: 0,
    weights: put(context.memory, w),
    codes: context.memory.i8(w.length),
    grid,
    scales: put(context.memory, absmaxScales(w, grid)),
    hessian: hessianOfInputs(context, x),
  });
  assert.equal(report.fallback, null);
});

testEachContext("gptqRows() rejects rows that do not fit the Hessian", (context) => {
  const factor = prepareGptq(context, full(context, positiveDefinite(1, 4), 4), plain);
  assert.throws(
    () =>
      gptqRows(context, factor, {
        weights: context.memory.f32(6),
        codes: context.memory.i8(6),
        firstRow: 0,
        grid: rowGrid(2, 3),
        scales: context.memory.f32(2),
      }),
    {
      name: "RangeError",
      message: /6 weights and 6 codes of 3 columns, the Hessian has 4 channels/,
    },
  );
});

Deno.test("prepareGptq() and gptqRows() give the same bits on 1, 2 and 3 workers", async () => {
  const n = 300, rows = 50, module = compileLinalg();
  const w = weights(16, rows * n), h = positiveDefinite(17, n), blocks = h.slice(0, n * 100);
  for (let row = 0; row < n; row++) {
    const top = row - row % 100;
    blocks.set(h.subarray(row * n + top, row * n + top + 100), row * 100);
  }
  const scratchBytes = LINALG_WORKSPACE_BYTES + (2 << 20);
  const results: { [kind: string]: Uint8Array[] } = { full: [], blocks: [] };
  for (const size of [1, 2, 3]) {
    const team = new GptqTeam(size);
    for (const [kind, values, blockSize] of [["full", h, n], ["blocks", blocks, 100]] as const) {
      const scratchBase = 1 << 20;
      const memory = createSharedMemory(scratchBase + size * scratchBytes);
      const place = { hessian: 0, weights: 8 * n * n, codes: 8 * n * n + 4 * n * rows, scales: 0 };
      place.scales = Math.ceil((place.codes + n * rows) / 4) * 4;
      new Float64Array(memory.buffer, 0, n * blockSize).set(values);
      new Float32Array(memory.buffer, place.weights, n * rows).set(w);
      new Float32Array(memory.buffer, place.scales, rows).set(absmaxScales(w, rowGrid(rows, n)));
      const options = { actOrder: true, damping: 0.1 };
      const reports = await team.run({
        module,
        memory,
        control: createTeamControl(),
        rows,
        cols: n,
        blockSize,
        ...place,
        ...options,
        scratchBase,
        scratchBytes,
      });
      for (const { report } of reports) {
        assert.deepEqual(report, {
          damping: 0.1,
          dampingRaised: false,
          deadChannels: 0,
          fallback: null,
        });
      }
      const end = place.codes + n * rows;
      results[kind]!.push(
        new Uint8Array(memory.buffer, place.weights, end - place.weights).slice(),
      );
    }
    team.close();
  }
  for (const kind of ["full", "blocks"]) {
    const [one, two, three] = results[kind]!;
    assert.deepEqual(two, one, `${kind} on 2 workers`);
    assert.deepEqual(three, one, `${kind} on 3 workers`);
  }
  assert.notDeepEqual(results.full![0], results.blocks![0]);
});
