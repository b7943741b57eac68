import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type CpuKernels,
  type Grid,
  groupCount,
  STATS,
  STATS_LENGTH,
} from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { f32ToBf16 } from "../../src/core/dtype.ts";
import { CPU_BACKENDS, CpuRoom } from "./cpu_room.ts";
import { assertSameBits } from "./subject.ts";
import { flavors, grids, LENGTHS, seeds, uniform, values } from "./values.ts";

const [, wasm] = CPU_BACKENDS as [CpuKernels, CpuKernels];

/** Fails unless sums are within 1e-6 of those of squares; NaN stays NaN. */
function assertCloseStats(got: Float64Array, want: Float64Array, context: string): void {
  const size = want[STATS.squaredSignal]! + want[STATS.squaredDequantized]!;
  for (const [name, place] of Object.entries(STATS)) {
    const a = got[place]!, b = want[place]!;
    if (name === "count") assert.equal(a, b, `${context}: count`);
    else if (!want.every(Number.isFinite)) continue;
    else if (name === "maxAbsError") assert.equal(a, b, `${context}: maxAbsError`);
    else {
      const scale = name === "dot" ? size : b;
      assert(Math.abs(a - b) <= 1e-6 * scale, `${context}: ${name} want ${b}, got ${a}`);
    }
  }
  assert(
    Number.isFinite(want[STATS.squaredSignal]) || !Number.isFinite(got[STATS.squaredSignal]),
    `${context}: NaN and infinity must show in the sum`,
  );
}

const ODD_SCALES = [0, 1e-30, 1e-45, NaN, Infinity, 3e38, -0.01, 1e36, 1e-36];

function scalesFor(seed: number, grid: Grid): Float32Array {
  const next = uniform(seed);
  return Float32Array.from(
    { length: groupCount(grid) },
    () => next() < 0.2 ? ODD_SCALES[Math.floor(next() * ODD_SCALES.length)]! : next() * 0.003,
  );
}

function compareWithSingleKernels(seed: number, grid: Grid, x: Float32Array): void {
  const scales = scalesFor(seed, grid), context = `seed ${seed}, ${JSON.stringify(grid)}`;
  const codes = new Int8Array(x.length), xhat = new Float32Array(x.length);
  referenceKernels.quantize(codes, x, scales, grid);
  referenceKernels.dequantize(xhat, codes, scales, grid);
  const stats = new Float64Array(STATS_LENGTH), errors = x.map((value, i) => value - xhat[i]!);
  referenceKernels.errorStats(stats, x, xhat);
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), by = room.f32(scales);
    const rounded = room.i8(x.length), left = room.f32(x), found = room.stats();
    kernels.quantizeErrors(rounded, left, found, by, grid);
    assertSameBits(rounded, codes, `${kernels.name}, ${context}: codes`);
    assertSameBits(left, errors, `${kernels.name}, ${context}: errors`);
    assertCloseStats(found, stats, `${kernels.name}, ${context}`);
    const again = room.f32(x), measured = room.stats();
    kernels.codeErrors(again, measured, rounded, by, grid);
    assertSameBits(again, left, `${kernels.name}, ${context}: errors of codes`);
    assertSameBits(measured, found, `${kernels.name}, ${context}: sums of codes`);
  }
}

Deno.test("quantizeErrors() and codeErrors() give what the single kernels give, for any grid and values", async () => {
  await fc.assert(
    fc.asyncProperty(seeds, grids, flavors, (seed, grid, flavor) => {
      compareWithSingleKernels(seed, grid, values(seed, grid.rows * grid.cols, flavor));
      return Promise.resolve();
    }),
    { numRuns: 200 },
  );
});

Deno.test("quantizeErrors() gives the same at every length of a row, and beyond a run", () => {
  for (const cols of [...LENGTHS.filter((length) => length > 0), 2048, 3000]) {
    for (const flavor of ["plain", "nasty"] as const) {
      const grid = { rows: 3, cols, groupRows: 1, groupCols: cols };
      compareWithSingleKernels(cols, grid, values(cols, 3 * cols, flavor));
    }
  }
});

Deno.test("quantizeErrors() divides if a multiplication by the reciprocal gives other codes", () => {
  const next = uniform(9), by = 0.37;
  // Halves of a step, and the numbers next to them.
  const x = Float32Array.from({ length: 40_000 }, () => {
    const middle = Math.fround((Math.floor(next() * 254) - 126.5) * by);
    return middle * (1 + (Math.floor(next() * 5) - 2) * 2 ** -24);
  });
  const grid = { rows: 1, cols: x.length, groupRows: 1, groupCols: x.length };
  const want = new Int8Array(x.length), scales = new Float32Array([by]);
  referenceKernels.quantize(want, x, scales, grid);
  const inverse = Math.fround(1 / scales[0]!);
  const naive = x.map((value) => Math.fround(Math.fround(value * inverse) + 12582912) - 12582912);
  assert(want.some((code, i) => code !== naive[i]), "the two forms differ on this data");
  const room = new CpuRoom(wasm), got = room.i8(x.length);
  wasm.quantizeErrors(got, room.f32(x), room.stats(), room.f32(scales), grid);
  assertSameBits(got, want, "codes");
});

function bf16Of(x: Float32Array): Uint8Array {
  return new Uint8Array(Uint16Array.from(x, f32ToBf16).buffer);
}

Deno.test("quantizeBf16Rows() gives what decoding and the single kernels give", async () => {
  const lengths = fc.constantFrom(...LENGTHS.filter((length) => length > 0), 1500);
  await fc.assert(
    fc.asyncProperty(seeds, lengths, fc.nat({ max: 5 }), flavors, (seed, cols, rows, flavor) => {
      const source = bf16Of(values(seed, rows * cols, flavor));
      const context = `seed ${seed}, ${rows} x ${cols}, ${flavor}`;
      const [want, got] = CPU_BACKENDS.map((kernels) => {
        const room = new CpuRoom(kernels), codes = room.i8(rows * cols);
        const scales = room.f32(new Float32Array(rows)), stats = room.stats();
        kernels.quantizeBf16Rows(codes, scales, stats, room.u8(source));
        return { codes, scales, stats };
      });
      assertSameBits(got!.codes, want!.codes, `${context}: codes`);
      assertSameBits(got!.scales, want!.scales, `${context}: scales`);
      assertCloseStats(got!.stats, want!.stats, context);
      return Promise.resolve();
    }),
    { numRuns: 300 },
  );
});

Deno.test("rotateBf16Rows() gives what decode(), rotate() and absmax() give", async () => {
  const groups = fc.constantFrom(1, 4, 16, 64, 256, 1024);
  const rows = fc.nat({ max: 4 }), across = fc.integer({ min: 1, max: 3 });
  await fc.assert(
    fc.asyncProperty(seeds, groups, rows, across, flavors, (seed, group, rows, across, flavor) => {
      const cols = group * across, source = bf16Of(values(seed, rows * cols, flavor));
      const context = `seed ${seed}, ${rows} x ${cols} in groups of ${group}, ${flavor}`;
      for (const add of [false, true]) {
        const [want, got] = CPU_BACKENDS.map((kernels) => {
          const room = new CpuRoom(kernels);
          const x = room.f32(values(seed + 1, rows * cols, add ? flavor : "plain"));
          const largest = room.f32(new Float32Array(rows).fill(7));
          kernels.rotateBf16Rows(x, largest, room.u8(source), group, add);
          return { x, largest };
        });
        assertSameBits(got!.x, want!.x, `${context}, ${add}: values`);
        assertSameBits(got!.largest, want!.largest, `${context}, ${add}: largest`);
      }
      return Promise.resolve();
    }),
    { numRuns: 300 },
  );
});

Deno.test("rotatedAbsmax() gives the largest magnitude after rotate()", async () => {
  const groups = fc.constantFrom(1, 4, 16, 64, 256, 1024);
  await fc.assert(
    fc.asyncProperty(seeds, groups, fc.nat({ max: 4 }), flavors, (seed, group, count, flavor) => {
      const x = values(seed, group * count, flavor);
      // Found before: nothing, some of it, more than there is.
      const whole = referenceKernels.rotatedAbsmax(x.slice(), group, 0);
      for (const least of [0, 0.4 * whole, 0.8 * whole, 2 * whole]) {
        const want = referenceKernels.rotatedAbsmax(x.slice(), group, least);
        const got = wasm.rotatedAbsmax(new CpuRoom(wasm).f32(x), group, least);
        assert(
          Object.is(got, want),
          `seed ${seed}, ${count} x ${group}, ${flavor}: ${got}, ${want}`,
        );
      }
      return Promise.resolve();
    }),
    { numRuns: 300 },
  );
});

Deno.test("fused kernels refuse arrays that do not fit", () => {
  for (const kernels of CPU_BACKENDS) {
    const room = new CpuRoom(kernels), x = room.f32(new Float32Array(16)), codes = room.i8(16);
    const scales = room.f32(new Float32Array(4)), stats = room.stats();
    const grid = { rows: 2, cols: 8, groupRows: 1, groupCols: 4 };
    assert.throws(
      () => kernels.quantizeErrors(codes.subarray(1), x, stats, scales, grid),
      /Cannot run quantizeErrors: codes has 15 elements, needs 16|Cannot run quantize: codes has 15/,
    );
    assert.throws(
      () => kernels.quantizeBf16Rows(codes, scales, stats, room.u8(new Uint8Array(31))),
      /Cannot run quantizeBf16Rows: source has 31 elements, needs 32/,
    );
    assert.throws(
      () => kernels.quantizeBf16Rows(codes, scales.subarray(1), stats, room.u8(new Uint8Array(32))),
      /Cannot run quantizeBf16Rows: 16 codes are no 3 rows/,
    );
    const source = room.u8(new Uint8Array(32));
    assert.throws(
      () => kernels.rotateBf16Rows(x, scales, source.subarray(1), 4),
      /Cannot run rotateBf16Rows: source has 31 elements, needs 32/,
    );
    assert.throws(
      () => kernels.rotateBf16Rows(x, scales.subarray(1), source, 4),
      /Cannot run rotateBf16Rows: 16 values are no 3 rows/,
    );
    assert.throws(
      () => kernels.rotateBf16Rows(x, scales, source, 16),
      /Cannot run rotate: group size 16 does not divide 4 elements/,
    );
  }
});
