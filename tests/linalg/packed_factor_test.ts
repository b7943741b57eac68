import assert from "node:assert/strict";
import fc from "fast-check";
import { cholesky } from "../../src/linalg/cholesky.ts";
import type { LinalgContext } from "../../src/linalg/context.ts";
import { bytesTaken } from "../../src/core/counted_memory.ts";
import { ldlq, wholeFactor } from "../../src/linalg/ldlq.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { type FeedBackBits, packFactor, planPackedFactor } from "../../src/linalg/packed_factor.ts";
import { assertSameBits } from "../kernels/subject.ts";
import { put, referenceContext, testEachContext, wasmContext } from "./contexts.ts";
import { outputError, positiveDefinite, weights } from "./matrices.ts";

const SCALE = 0.0007;

/** Rounds `w` of `n` columns on `h`, by rows of these numbers at a time. */
function round(
  context: LinalgContext,
  w: Float32Array,
  h: Float64Array,
  { n, bits = null, parts = [w.length / n] }: {
    n: number;
    bits?: FeedBackBits | null;
    parts?: number[];
  },
): { codes: Int8Array; errors: Float32Array } {
  const { memory } = context, mark = memory.mark();
  const l = matrix(put(memory, h), n, n), errors = put(memory, w), codes = memory.i8(w.length);
  assert.equal(cholesky(context, l, 0), -1);
  const packed = bits === null ? null : packFactor(context, l, memory, bits);
  const columnGroups = put(memory, new Int32Array(n));
  let firstRow = 0;
  for (const rows of parts) {
    const at = firstRow * n;
    ldlq(context, wholeFactor(l), {
      weights: matrix(errors.subarray(at, at + rows * n), rows, n),
      codes: codes.subarray(at),
      codesRowStride: n,
      scales: put(memory, new Float32Array(w.length / n).fill(SCALE)),
      scaleCols: 1,
      groupRows: 1,
      firstRow,
      columnGroups,
    }, packed);
    firstRow += rows;
  }
  const copies = { codes: codes.slice(), errors: errors.slice() };
  memory.release(mark);
  return copies;
}

const widths = fc.constantFrom<FeedBackBits>(8, 16);

Deno.test("ldlq() with a packed factor gives the same bits on every backend, for any split of rows", () => {
  const sizes = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(128, 129, 256, 257));
  fc.assert(
    fc.property(fc.nat(), sizes, fc.integer({ min: 1, max: 9 }), widths, (seed, n, rows, bits) => {
      const h = positiveDefinite(seed, n), w = weights(seed, rows * n);
      const want = round(referenceContext, w, h, { n, bits });
      const top = Math.floor(rows / 3);
      for (const parts of [[rows], [top, rows - top]]) {
        const got = round(wasmContext, w, h, { n, bits, parts });
        assertSameBits(got.codes, want.codes, `codes, ${parts}`);
        assertSameBits(got.errors, want.errors, `errors, ${parts}`);
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("ldlq() with a packed factor is as good as without, with other codes here and there", () => {
  const n = 700, rows = 64, h = positiveDefinite(3, n), w = weights(4, rows * n);
  const exact = round(wasmContext, w, h, { n });
  for (const [bits, share] of [[8, 0.35], [16, 0.2]] as const) {
    const packed = round(wasmContext, w, h, { n, bits });
    const ratio = outputError(packed.errors, h, n) / outputError(exact.errors, h, n);
    assert(
      Math.abs(ratio - 1) < 2e-3,
      `squared output error ${ratio} of that in f32, ${bits} bits`,
    );
    const different = exact.codes.filter((code, i) => code !== packed.codes[i]).length;
    assert(different > 0 && different < share * exact.codes.length, `${different} codes differ`);
  }
});

testEachContext("packFactor() takes the memory that planPackedFactor() counts", (context) => {
  const { memory } = context;
  for (const n of [1, 127, 128, 129, 200, 256, 300, 513]) {
    const l = matrix(memory.f64(n * n).fill(1), n, n);
    const { numbers, scales, diagonal, panels } = packFactor(context, l, memory, 8);
    const bytes = [numbers, scales, diagonal, panels].reduce((sum, x) => sum + x.byteLength, 0);
    const planned = bytesTaken((counted) => planPackedFactor(counted, n));
    assert(bytes <= planned && planned <= bytes + 192, `${n}: ${bytes}, ${planned} planned`);
  }
});
