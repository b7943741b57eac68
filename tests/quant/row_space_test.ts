import { blockColsOf } from "../../src/quant/row_space_blocks.ts";
import assert from "node:assert/strict";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import {
  factorRowSpace,
  roundInRowSpace,
  type RowSpaceFactor,
  rowSpaceObjectives,
} from "../../src/quant/row_space.ts";
import { normal, uniform } from "../kernels/values.ts";
import { put, testEachContext } from "../linalg/contexts.ts";
import { outputError, plainLdlq, weights } from "../linalg/matrices.ts";

interface Case {
  readonly rows: number;
  readonly cols: number;
  readonly inputs: number;
  readonly group: number;
  readonly block: number;
}

const CASES: readonly Case[] = [
  { rows: 24, cols: 96, inputs: 20, group: 16, block: 32 },
  { rows: 300, cols: 64, inputs: 7, group: 16, block: 64 },
  { rows: 9, cols: 512, inputs: 40, group: 256, block: 256 },
  { rows: 5, cols: 48, inputs: 1, group: 16, block: 16 },
  { rows: 6, cols: 64, inputs: 130, group: 4, block: 64 },
];

/** Rotated inputs `[K, T]` of channels of very different energy, and a diagonal. */
function layer({ cols, inputs }: Case) {
  const next = uniform(5), gauss = normal(6);
  const common = Float64Array.from({ length: inputs }, gauss);
  const x = new Float32Array(cols * inputs);
  for (let k = 0; k < cols; k++) {
    const size = (next() < 0.1 ? 4 : 0.4 + next()) / Math.sqrt(inputs);
    for (let t = 0; t < inputs; t++) x[k * inputs + t] = size * (gauss() + 0.7 * common[t]!);
  }
  return { x, diagonal: Float64Array.from({ length: cols }, () => 0.1 + next()) };
}

/** H in plain arithmetic: R diag R + damping + X Xᵀ, f64 `[K, K]`. */
function dense(
  { cols, inputs, group }: Case,
  x: Float32Array,
  diagonal: Float64Array,
  damping: number,
): Float64Array {
  const rotation = new Float32Array(group * group);
  for (let i = 0; i < group; i++) rotation[i * (group + 1)] = 1;
  referenceKernels.rotate(rotation, group);
  const h = new Float64Array(cols * cols);
  for (let i = 0; i < cols; i++) {
    for (let j = 0; j < cols; j++) {
      let sum = i === j ? damping : 0;
      for (let t = 0; t < inputs; t++) sum += x[i * inputs + t]! * x[j * inputs + t]!;
      const first = i - i % group;
      for (let k = 0; first === j - j % group && k < group; k++) {
        sum += rotation[k * group + i - first]! * diagonal[first + k]! *
          rotation[k * group + j - first]!;
      }
      h[i * cols + j] = sum;
    }
  }
  return h;
}

function factorOf(context: LinalgContext, c: Case, damping: number) {
  const { x, diagonal } = layer(c);
  const factor = factorRowSpace(context, context.memory, {
    inputs: matrix(put(context.memory, x), c.cols, c.inputs),
    diagonal,
    groupSize: c.group,
    blockCols: c.block,
    damping,
  });
  assert.ok(factor !== null);
  return { factor, h: dense(c, x, diagonal, damping) };
}

function rounded(context: LinalgContext, factor: RowSpaceFactor, c: Case, w: Float32Array) {
  const codes = context.memory.i8(w.length), errors = put(context.memory, w);
  const scales = put(
    context.memory,
    Float32Array.from({ length: c.rows }, (_, r) => 0.001 * (1 + r % 5)),
  );
  roundInRowSpace(context, factor, {
    weights: errors,
    codes,
    firstRow: 0,
    grid: { rows: c.rows, cols: c.cols, groupRows: 1, groupCols: c.cols },
    scales,
  });
  return { codes, errors, scales };
}

for (const c of CASES) {
  const { rows, cols, inputs, group } = c;
  testEachContext(
    `roundInRowSpace() gives the codes of dense LDLQ: ${rows} x ${cols}, ${inputs} inputs, groups of ${group}`,
    (context) => {
      const { factor, h } = factorOf(context, c, 0.05);
      const w = weights(2, rows * cols);
      const { codes, errors, scales } = rounded(context, factor, c, w);
      const { order } = factor;
      assert.deepEqual([...order].sort((a, b) => a - b), [...order.keys()]);
      const permuted = new Float64Array(h.length), moved = new Float32Array(w.length);
      for (let i = 0; i < cols; i++) {
        for (let j = 0; j < cols; j++) permuted[i * cols + j] = h[order[i]! * cols + order[j]!]!;
        for (let r = 0; r < rows; r++) moved[r * cols + i] = w[r * cols + order[i]!]!;
      }
      const want = plainLdlq(moved, permuted, cols, (row) => scales[row]!);
      let differ = 0;
      for (let r = 0; r < rows; r++) {
        for (let k = 0; k < cols; k++) {
          const code = codes[r * cols + order[k]!]!;
          if (code !== want[r * cols + k]) differ++;
          const error = w[r * cols + order[k]!]! - code * scales[r]!;
          assert.ok(Math.abs(errors[r * cols + order[k]!]! - error) < 1e-7);
        }
      }
      // A code next to the middle between two may fall to the other side, and carries others with it.
      assert.ok(differ <= rows * cols * 1e-3, `${differ} codes differ`);
    },
  );

  testEachContext(
    `rowSpaceObjectives() is e·H·eᵀ: ${rows} x ${cols}, ${inputs} inputs, groups of ${group}`,
    (context) => {
      const { factor, h } = factorOf(context, c, 1e-9);
      const e = weights(9, rows * cols);
      const rotate = (values: Float32Array, size: number) => {
        // The kernels of the backend need memory of their own; the result is the same.
        const copy = values.slice();
        referenceKernels.rotate(copy, size);
        values.set(copy);
      };
      const found = rowSpaceObjectives(
        { ...context, rotate },
        factor,
        matrix(put(context.memory, e), rows, cols),
      );
      for (let r = 0; r < rows; r++) {
        const want = outputError(e.subarray(r * cols, (r + 1) * cols), h, cols);
        assert.ok(Math.abs(found[r]! - want) <= 1e-5 * want, `row ${r}: ${found[r]} for ${want}`);
      }
    },
  );
}

testEachContext("roundInRowSpace() gives the same bits however rows are split", (context) => {
  const c = { ...CASES[0]!, rows: 24 };
  const { factor } = factorOf(context, c, 0.05);
  const w = weights(2, c.rows * c.cols);
  const whole = rounded(context, factor, c, w);
  const parts = new Int8Array(w.length);
  for (let row = 0; row < c.rows; row += 7) {
    const height = Math.min(7, c.rows - row), at = row * c.cols, end = at + height * c.cols;
    const codes = context.memory.i8(height * c.cols);
    roundInRowSpace(context, factor, {
      weights: put(context.memory, w.subarray(at, end)),
      codes,
      firstRow: row,
      grid: { rows: c.rows, cols: c.cols, groupRows: 1, groupCols: c.cols },
      scales: whole.scales,
    });
    parts.set(codes, at);
  }
  assert.deepEqual(parts, whole.codes.slice());
});

testEachContext("factorRowSpace() says that numbers out of range have no factor", (context) => {
  const cols = 32, inputs = 3;
  const factor = factorRowSpace(context, context.memory, {
    inputs: matrix(put(context.memory, new Float32Array(cols * inputs).fill(NaN)), cols, inputs),
    diagonal: new Float64Array(cols).fill(1),
    groupSize: 16,
    blockCols: 16,
    damping: 0.1,
  });
  assert.equal(factor, null);
});

Deno.test("blockColsOf() returns whole rotation groups that divide the columns", () => {
  assert.equal(blockColsOf(12288, 256), 256);
  assert.equal(blockColsOf(1600, 64), 64);
  assert.equal(blockColsOf(384, 64), 192);
  assert.equal(blockColsOf(240, 16), 240);
  assert.equal(blockColsOf(272, 16), 16);
  assert.equal(blockColsOf(4096, 1024), null);
});
