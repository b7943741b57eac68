import assert from "node:assert/strict";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import type { Hessian } from "../../src/linalg/hessian.ts";
import { hessianFromChannels } from "../../src/linalg/hessian_sources.ts";
import { rotateHessian, widenBlocks } from "../../src/linalg/rotate_hessian.ts";
import { values } from "../kernels/values.ts";
import { put, testEachContext } from "./contexts.ts";
import { outputError, positiveDefinite } from "./matrices.ts";

testEachContext("rotateHessian() keeps the output error of rotated weight errors", (context) => {
  const size = 32, groupSize = 16, h = positiveDefinite(1, size);
  const error = values(2, size, "plain"), rotatedError = error.slice();
  referenceKernels.rotate(rotatedError, groupSize);
  const hessian: Hessian = {
    size,
    blockSize: size,
    values: put(context.memory, h),
    source: "hessian",
  };
  const rotated = rotateHessian(context, hessian, groupSize, null);
  const before = outputError(error, h, size);
  const after = outputError(rotatedError, rotated.values.slice(), size);
  assert(Math.abs(after / before - 1) < 1e-6, `${before} became ${after}`);
});

testEachContext(
  "rotateHessian() makes blocks of a diagonal that are those of the full matrix",
  (context) => {
    const size = 48, groupSize = 16;
    const magnitudes = Array.from({ length: size }, (_, i) => 1 + (i * 7) % 5);
    const diagonal = hessianFromChannels(magnitudes, context.memory.f64(size));
    const full = widenBlocks(diagonal, size, context.memory.f64(size * size));
    const spare = context.memory.f64(size * groupSize);
    const blocks = rotateHessian(context, diagonal, groupSize, spare);
    const whole = rotateHessian(context, full, groupSize, null);
    assert.equal(blocks.blockSize, groupSize);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const top = i - i % groupSize, inBlock = j >= top && j < top + groupSize;
        const want = inBlock ? blocks.values[i * groupSize + j - top]! : 0;
        assert.equal(whole.values[i * size + j], want, `at ${i}, ${j}`);
      }
    }
  },
);

Deno.test("widenBlocks() rejects blocks that do not divide each other", () => {
  const hessian: Hessian = {
    size: 6,
    blockSize: 2,
    values: new Float64Array(12),
    source: "channels",
  };
  assert.throws(() => widenBlocks(hessian, 3, new Float64Array(18)), /2 to 3 of 6 channels/);
  assert.throws(() => widenBlocks(hessian, 4, new Float64Array(24)), /2 to 4 of 6 channels/);
  assert.throws(() => widenBlocks(hessian, 6, new Float64Array(35)), /have 35 elements, need 36/);
});
