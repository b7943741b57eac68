import assert from "node:assert/strict";
import { GEMM_DEPTH } from "../../src/linalg/linalg_kernels.ts";
import {
  addDirections,
  addGram,
  diagonalOf,
  finishGram,
  type Hessian,
  hessianBlock,
  shrinkageOf,
  shrinkToDiagonal,
  standsSingle,
} from "../../src/linalg/hessian.ts";
import { hessianFromChannels, hessianFromMatrix } from "../../src/linalg/hessian_sources.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { SINGLE_ERROR } from "../../src/linalg/cholesky.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { values } from "../kernels/values.ts";
import { put, testEachContext } from "./contexts.ts";
import { positiveDefinite } from "./matrices.ts";
import { hessianOfInputs } from "./whole_hessian.ts";

testEachContext(
  "addGram(), finishGram() and shrinkToDiagonal() give the mean of the products, shrunk by T / (T + K / 4)",
  (context) => {
    const rows = 30, size = 9, x = values(1, rows * size, "plain");
    const { values: out } = hessianOfInputs(context, matrix(put(context.memory, x), rows, size));
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        let sum = 0;
        for (let t = 0; t < rows; t++) sum += x[t * size + i]! * x[t * size + j]!;
        const want = sum / rows * (i === j ? 1 : rows / (rows + size / 4));
        assert(Math.abs(out[i * size + j]! - want) < 1e-15, `at ${i}, ${j}`);
      }
    }
  },
);

testEachContext("addGram() gives the same bits for chunks of whole runs of terms", (context) => {
  const rows = 2 * GEMM_DEPTH + 30, size = 20;
  const x = put(context.memory, values(2, rows * size, "plain"));
  const whole = context.memory.f64(size * size).fill(0);
  const chunked = context.memory.f64(size * size).fill(0);
  addGram(context, matrix(whole, size, size), matrix(x, rows, size));
  for (const [from, to] of [[0, GEMM_DEPTH], [GEMM_DEPTH, rows]] as const) {
    const chunk = matrix(x.subarray(from * size, to * size), to - from, size);
    addGram(context, matrix(chunked, size, size), chunk);
  }
  for (const h of [whole, chunked]) finishGram(context, matrix(h, size, size), rows);
  assertSameBits(chunked, whole, "chunks");
});

Deno.test("hessianFromMatrix() makes small differences symmetric", () => {
  const { values } = hessianFromMatrix(Float64Array.of(2, 1.001, 0.999, 2), 2);
  assert.deepEqual([...values], [2, 1, 1, 2]);
});

Deno.test("hessianFromMatrix() refuses what is no Hessian, and says why", () => {
  const rejects = (values: number[], message: string) =>
    assert.throws(() => hessianFromMatrix(Float64Array.from(values), 2), {
      name: "BadStatisticError",
      message,
    });
  assert.throws(() => hessianFromMatrix(new Float64Array(3), 2), {
    name: "RangeError",
    message: "Cannot make Hessian: hessian has 3 elements, needs 4",
  });
  rejects(
    [1, 0, 0, -1],
    "Cannot use Hessian: hessian[1, 1] is -1, needs a finite number, 0 or more",
  );
  rejects(
    [1, 0, 0, NaN],
    "Cannot use Hessian: hessian[1, 1] is NaN, needs a finite number, 0 or more",
  );
  rejects([1, NaN, 0, 1], "Cannot use Hessian: hessian[1, 0] is NaN, needs a finite number");
  rejects(
    [1, 0.5, 0.4, 1],
    "Cannot use Hessian: not symmetric, hessian[1, 0] is 0.4, hessian[0, 1] is 0.5",
  );
  rejects(
    [1, 2, 2, 1],
    "Cannot use Hessian: not positive semidefinite, hessian[1, 0] is 2, at most 1 fits its " +
      "diagonal",
  );
  assert.throws(() => hessianFromMatrix(Float64Array.of(-1), 1, { firstChannel: 7 }), {
    message: "Cannot use Hessian: hessian[7, 7] is -1, needs a finite number, 0 or more",
  });
});

Deno.test("hessianFromChannels() squares magnitudes, and refuses what is none", () => {
  const hessian = hessianFromChannels([1, 0, 3], new Float64Array(3));
  assert.deepEqual([...hessian.values], [1, 0, 9]);
  assert.equal(hessian.blockSize, 1);
  assert.throws(
    () => hessianFromChannels([1, -2], new Float64Array(2)),
    { message: "Cannot make Hessian: channel 1 is -2, needs a finite number, 0 or more" },
  );
});

testEachContext("addDirections() adds a share of the energy along the directions", (context) => {
  const size = 3;
  const values = put(context.memory, Float64Array.of(2, 0, 0, 0, 1, 0, 0, 0, 3)); // trace 6
  const hessian: Hessian = { size, blockSize: size, values, source: "activations" };
  const a = matrix(put(context.memory, Float32Array.of(1, 0, 1, 0, 2, 0)), 2, 3); // tr(AᵀA) 6
  addDirections(context, hessian, a, 0.25);
  const want = [2.25, 0, 0.25, 0, 2, 0, 0.25, 0, 3.25];
  want.forEach((value, i) => assert(Math.abs(values[i]! - value) < 1e-6, `at ${i}: ${values[i]}`));
  addDirections(context, hessian, matrix(context.memory.f32(3).fill(0), 1, 3), 1);
  want.forEach((value, i) => assert(Math.abs(values[i]! - value) < 1e-6, "zero directions"));
  assert.throws(
    () => addDirections(context, { ...hessian, blockSize: 1 }, a, 1),
    /need a full Hessian of 3 channels, have 3 in blocks of 1/,
  );
});

testEachContext("shrinkToDiagonal() scales what is off the diagonal", (context) => {
  const size = 5, before = positiveDefinite(3, size), h = put(context.memory, before);
  shrinkToDiagonal(context, matrix(h, size, size), 0.25);
  h.forEach((value, i) => {
    assert.equal(value, before[i]! * (i % (size + 1) === 0 ? 1 : 0.25));
  });
  assert.equal(shrinkageOf(1024, 4096), 0.5);
});

Deno.test("diagonalOf() and hessianBlock() find elements of every kind of blocks", () => {
  const values = Float64Array.from({ length: 12 }, (_, i) => i);
  const hessian: Hessian = { size: 6, blockSize: 2, values, source: "channels" };
  assert.deepEqual([...diagonalOf(hessian)], [0, 3, 4, 7, 8, 11]);
  assert.deepEqual([...hessianBlock(hessian, 1).data], [4, 5, 6, 7]);
});

testEachContext(
  "addGram() in f32 is as near to the sums in f64 as standsSingle() counts on",
  (context) => {
    const rows = 2 * GEMM_DEPTH + 30, size = 20;
    const x = put(context.memory, values(3, rows * size, "outlier"));
    const exact = context.memory.f64(size * size).fill(0);
    const single = context.memory.f64(size * size).fill(0);
    addGram(context, matrix(exact, size, size), matrix(x, rows, size));
    addGram(context, matrix(single, size, size), matrix(x, rows, size), { single: true });
    let different = 0;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j <= i; j++) {
        const at = i * size + j, most = Math.sqrt(exact[i * (size + 1)]! * exact[j * (size + 1)]!);
        assert(Math.abs(single[at]! - exact[at]!) <= SINGLE_ERROR * most, `at ${i}, ${j}`);
        if (single[at] !== exact[at]) different++;
      }
    }
    assert(different > 0, "the two forms differ on this data");
  },
);

Deno.test("standsSingle() refuses little damping, many channels and inputs beyond the range of f32", () => {
  const layer = { size: 1536, damping: 0.1 };
  assert(standsSingle(3, layer));
  assert(!standsSingle(3, { ...layer, damping: 0.01 }));
  assert(!standsSingle(3, { ...layer, size: 12288 }));
  for (const largest of [1e-20, 1e18, Infinity, NaN]) assert(!standsSingle(largest, layer));
});
