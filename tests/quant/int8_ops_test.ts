import assert from "node:assert/strict";
import { referenceLinalg } from "../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { HEAP } from "../../src/linalg/context.ts";
import {
  actQuant,
  type CodeSpace,
  int8Addmm,
  quipInt8Matmul,
  rotateRows,
  weightDequant,
  weightQuant,
} from "../../src/library/int8.ts";
import { randomSigns } from "../../src/quant/incoherence.ts";
import {
  type Int8Context,
  int8Linear,
  type Int8Weight,
  quantizeTo,
  rowGrid,
} from "../../src/quant/int8_ops.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { uniform } from "../kernels/values.ts";

const REFERENCE: Int8Context = { kernels: referenceKernels, linalg: referenceLinalg, memory: HEAP };

function values(seed: number, count: number): Float32Array {
  const next = uniform(seed);
  return Float32Array.from({ length: count }, () => 2 * next() - 1);
}

/** Plain f64 product x · wᵀ. */
function product(x: Float32Array, w: Float32Array, cols: number): Float64Array {
  const m = x.length / cols, n = w.length / cols;
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < cols; k++) out[i * n + j]! += x[i * cols + k]! * w[j * cols + k]!;
    }
  }
  return out;
}

function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let error = 0, signal = 0;
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    signal += want[i]! ** 2;
  }
  return Math.sqrt(error / signal);
}

/** A sylvester weight of `rows x cols`, padded, from plain sums over the definition. */
function sylvesterWeight(w: Float32Array, rows: number, cols: number): Int8Weight {
  const [p, q] = [8, 16];
  const signRow = randomSigns(p, { seed: 1, name: "w", side: "row" });
  const signCol = randomSigns(q, { seed: 1, name: "w", side: "col" });
  const sign = (i: number, j: number) => {
    let bits = i & j, odd = 0;
    while (bits > 0) [bits, odd] = [bits >> 1, odd ^ (bits & 1)];
    return odd === 0 ? 1 : -1;
  };
  const transformed = new Float32Array(p * q);
  for (let i = 0; i < p; i++) {
    for (let j = 0; j < q; j++) {
      let sum = 0;
      for (let r = 0; r < rows; r++) {
        for (let k = 0; k < cols; k++) {
          sum += sign(i, r) * signRow[r]! * w[r * cols + k]! * signCol[k]! * sign(k, j);
        }
      }
      transformed[i * q + j] = sum / Math.sqrt(p * q);
    }
  }
  const grid = rowGrid(p, q);
  const space: CodeSpace = { kind: "sylvester", rows, cols, signRow, signCol };
  return { ...weightQuant(transformed, grid), grid, space };
}

/** One weight in every space, with what it stands for. */
function weightsOfAllSpaces(): {
  name: string;
  weight: Int8Weight;
  cols: number;
  w: Float32Array;
}[] {
  const w = values(3, 6 * 16), odd = values(4, 7 * 13);
  const row = rowGrid(6, 16), grouped = { rows: 6, cols: 16, groupRows: 3, groupCols: 4 };
  const rotated = rotateRows(w, { cols: 16, groupSize: 16 });
  const original: CodeSpace = { kind: "original" };
  return [
    { name: "rows", weight: { ...weightQuant(w, row), grid: row, space: original }, cols: 16, w },
    {
      name: "tiles",
      weight: { ...weightQuant(w, grouped), grid: grouped, space: original },
      cols: 16,
      w,
    },
    {
      name: "convrot",
      weight: {
        ...weightQuant(rotated, row),
        grid: row,
        space: { kind: "convrot", groupSize: 16 },
      },
      cols: 16,
      w,
    },
    { name: "sylvester", weight: sylvesterWeight(odd, 7, 13), cols: 13, w: odd },
  ];
}

Deno.test("int8Linear() gives x · Wᵀ within the rounding of 8 bits in every space of the codes", () => {
  for (const { name, weight, cols, w } of weightsOfAllSpaces()) {
    const x = values(9, 5 * cols);
    const bias = values(10, w.length / cols);
    const want = product(x, w, cols).map((value, i) => value + bias[i % bias.length]!);
    const error = relativeError(quipInt8Matmul(x, weight, bias), want);
    assert.ok(error < 0.02, `${name}: ${error}`);
  }
});

Deno.test("int8Linear() gives the same bits on the reference and on WASM", () => {
  for (const { name, weight, cols, w } of weightsOfAllSpaces()) {
    for (const rows of [1, 4, 67]) {
      const x = values(20 + rows, rows * cols);
      const out = new Float32Array(rows * w.length / cols);
      int8Linear(REFERENCE, out, x, weight);
      assertSameBits(quipInt8Matmul(x, weight), out, `${name}, ${rows} rows`);
    }
  }
});

Deno.test("int8Addmm() is integer sums times both scales, in f32, plus the bias", () => {
  const cols = 37, x = values(1, 3 * cols), w = values(2, 5 * cols), bias = values(3, 5);
  const grid = rowGrid(5, cols);
  const activations = actQuant(x, { cols }), weight = { ...weightQuant(w, grid), grid };
  const y = int8Addmm(bias, activations, weight);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 5; j++) {
      let sum = 0;
      for (let k = 0; k < cols; k++) {
        sum += activations.codes[i * cols + k]! * weight.codes[j * cols + k]!;
      }
      const scaled = Math.fround(Math.fround(sum * activations.scales[i]!) * weight.scales[j]!);
      assert.equal(y[i * 5 + j], Math.fround(scaled + bias[j]!));
    }
  }
});

Deno.test("actQuant() and weightQuant() round as the reference does, zeros and ties included", () => {
  const x = Float32Array.of(127, 0.5, 1.5, -2.5, 0, 0, 0, 0, -1e-38, 3e38, 1, -3e38);
  const { codes, scales } = actQuant(x, { cols: 4 });
  const out = { codes: new Int8Array(12), scales: new Float32Array(3) };
  quantizeTo(REFERENCE, out, x, rowGrid(3, 4));
  assertSameBits(codes, out.codes, "codes");
  assertSameBits(scales, out.scales, "scales");
  assert.deepEqual([...codes.subarray(0, 4)], [127, 0, 2, -2]);
});

Deno.test("weightQuant() with scale search is never worse than without", () => {
  const w = values(5, 8 * 64).map((x, i) => i % 64 === 0 ? 6 * x : x);
  const grid = rowGrid(8, 64);
  const error = (searchScale: boolean) =>
    relativeError(weightDequant({ ...weightQuant(w, grid, { searchScale }), grid }), w);
  assert.ok(error(true) < error(false));
});

Deno.test("quipInt8Matmul() refuses what does not fit together", () => {
  const grid = rowGrid(2, 12), w = values(1, 24);
  const weight = { ...weightQuant(w, grid), grid };
  const convrot: CodeSpace = { kind: "convrot", groupSize: 16 };
  assert.throws(() => quipInt8Matmul(values(2, 12), { ...weight, space: convrot }), {
    message: "Cannot compute: the rotation group 16 does not divide 12 columns",
  });
  const original: CodeSpace = { kind: "original" };
  assert.throws(() => quipInt8Matmul(values(2, 13), { ...weight, space: original }), {
    message: "Cannot compute: 13 values are no rows of 12",
  });
  assert.throws(
    () => weightQuant(w, { ...grid, groupCols: 5 }),
    { message: "Cannot compute: groups of 1 x 5 do not tile 2 x 12" },
  );
});
