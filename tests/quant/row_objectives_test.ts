import assert from "node:assert/strict";
import { matrix } from "../../src/linalg/matrix.ts";
import { decode } from "../../src/backend/reference/decode.ts";
import { prepareGptq } from "../../src/quant/gptq.ts";
import { objectiveBounds, rowObjectives } from "../../src/quant/row_objectives.ts";
import { put, testEachContext } from "../linalg/contexts.ts";
import { outputError, positiveDefinite, weights } from "../linalg/matrices.ts";

testEachContext(
  "rowObjectives() gives e·H·eᵀ of the Hessian without damping, in any order and of several blocks",
  (context) => {
    const rows = 5, dead = 3;
    // Several panels of columns, and energies far outside of f32.
    const cases = [[150, 1, 1], [24, 3, 1], [600, 1, 1], [300, 1, 1e-60]] as const;
    for (const [blockSize, blocks, scale] of cases) {
      const size = blockSize * blocks, area = blockSize * blockSize;
      const h = new Float64Array(size * blockSize);
      for (let b = 0; b < blocks; b++) {
        h.set(positiveDefinite(b + 1, blockSize).map((x) => x * scale), b * area);
      }
      for (let i = 0; i < blockSize; i++) h[dead * blockSize + i] = h[i * blockSize + dead] = 0;
      const errors = weights(9, rows * size);
      const energies = Array.from({ length: size }, (_, i) => h[i * blockSize + i % blockSize]!);
      const mean = energies.reduce((sum, x) => sum + x, 0) / (size - 1);
      const known = h.slice();
      known[dead * blockSize + dead] = mean; // counts as the others
      for (const actOrder of [false, true]) {
        const hessian = { size, blockSize, values: put(context.memory, h), source: "hessian" };
        const factor = prepareGptq(context, { ...hessian, source: "hessian" }, {
          actOrder,
          damping: 0.5,
        });
        const x = matrix(put(context.memory, errors), rows, size);
        const found = rowObjectives({ ...context, decode }, factor, x);
        for (let r = 0; r < rows; r++) {
          let want = 0;
          for (let b = 0; b < blocks; b++) {
            const part = errors.subarray(r * size + b * blockSize, r * size + (b + 1) * blockSize);
            want += outputError(part, known.subarray(b * area, (b + 1) * area), blockSize);
          }
          assert(
            Math.abs(found[r]! * mean / want - 1) < 1e-4,
            `row ${r} of blocks of ${blockSize}: ${found[r]! * mean}, is ${want}`,
          );
        }
      }
    }
  },
);

testEachContext(
  "objectiveBounds() holds what rowObjectives() gives, in any order and of several blocks",
  (context) => {
    const rows = 5;
    const cases = [
      [300, 1, 1, 0.1],
      [150, 3, 1, 0.1],
      [257, 1, 1e-60, 0.1],
      [129, 2, 1e40, 0.1],
      [300, 1, 1, 1e-3],
    ] as const;
    for (const [blockSize, blocks, scale, damping] of cases) {
      const size = blockSize * blocks, h = new Float64Array(size * blockSize);
      for (let b = 0; b < blocks; b++) {
        // With little damping, one that takes 16 bits: products of a few inputs.
        const few = (i: number) =>
          Math.sin(i % blockSize + 1) * Math.sin(Math.floor(i / blockSize) + 1);
        const part = positiveDefinite(b + 1, blockSize)
          .map((x, i) => (damping < 0.1 ? few(i) + 1e-4 * x : x) * scale);
        h.set(part, b * blockSize * blockSize);
      }
      h[7 * blockSize + 7] = 0; // a dead channel
      for (let i = 0; i < blockSize; i++) h[7 * blockSize + i] = h[i * blockSize + 7] = 0;
      const errors = weights(9, rows * size);
      errors.fill(0, 0, size);
      for (const actOrder of [false, true]) {
        const mark = context.memory.mark();
        const hessian = {
          size,
          blockSize,
          values: put(context.memory, h),
          source: "hessian",
        } as const;
        const turbo = context.memory;
        const factor = prepareGptq(context, hessian, { actOrder, damping, turbo });
        assert.equal(factor.packed![0]!.bits, damping < 0.1 ? 16 : 8);
        const x = matrix(put(context.memory, errors), rows, size);
        const want = rowObjectives({ ...context, decode }, factor, x);
        const { least, most } = objectiveBounds(context, factor, x)!;
        for (let r = 0; r < rows; r++) {
          const told = `row ${r} of blocks of ${blockSize}: ${want[r]} in ${least[r]} .. ${
            most[r]
          }`;
          assert(least[r]! <= want[r]! && want[r]! <= most[r]!, told);
          assert(most[r]! - least[r]! <= 0.1 * want[r]!, told);
          const middle = (least[r]! + most[r]!) / 2;
          const near = damping < 0.1 ? 1e-3 : 1e-2;
          assert(Math.abs(middle - want[r]!) <= near * want[r]!, told);
        }
        context.memory.release(mark);
      }
    }
  },
);

testEachContext("objectiveBounds() has no answer without integers", (context) => {
  const size = 150, values = put(context.memory, positiveDefinite(1, size));
  const hessian = { size, blockSize: size, values, source: "hessian" } as const;
  const factor = prepareGptq(context, hessian, { actOrder: true, damping: 0.1 });
  assert.equal(objectiveBounds(context, factor, matrix(context.memory.f32(size), 1, size)), null);
});
