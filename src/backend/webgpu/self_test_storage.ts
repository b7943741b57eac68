/** Problems for matrices that the device stores in 2 bytes: made narrow, and multiplied. */

import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../../core/dtype.ts";
import { fillNormal, type Random } from "../../core/rng.ts";
import { matrix } from "../../linalg/matrix.ts";
import { Batch } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { gpuMatrix, recordGemm, recordNarrow } from "./record_matrix.ts";
import type { AnyLinalg, Result } from "./self_test_problems.ts";

/** What the device does, and what it should be, for the same random numbers. */
export interface DeviceProblem {
  run(gpu: Gpu, random: Random): Promise<readonly Result[]>;
  want(linalg: AnyLinalg, random: Random): Promise<readonly Result[]>;
}

/** Rows, columns and terms; rows of half-width operands are whole words. */
const M = 67, N = 70, K = 130;

/** The product of a matrix that is stored in 2 bytes, and its stored bits. */
export const STORAGE_PROBLEMS: Readonly<Record<string, DeviceProblem>> = {
  "gemmF32 of bf16": storedAs("bf16", f32ToBf16, bf16ToF32),
  "gemmF32 of f16": storedAs("f16", f32ToF16, f16ToF32),
};

function storedAs(
  storage: "bf16" | "f16",
  narrow: (value: number) => number,
  widen: (bits: number) => number,
): DeviceProblem {
  return {
    async run(gpu, random) {
      const { a, b } = operands(random);
      const bits = new Uint16Array(M * K), c = new Float32Array(M * N);
      const batch = new Batch(`product of ${storage}`);
      const stored = gpuMatrix(batch.scratch(storage, bits.byteLength), {
        ...{ rows: M, cols: K, storage },
      });
      recordNarrow(batch, stored, gpuMatrix(batch.input("a", a), { rows: M, cols: K }), 1);
      const out = gpuMatrix(batch.scratch("c", c.byteLength), { rows: M, cols: N });
      const right = gpuMatrix(batch.input("b", b), { rows: K, cols: N });
      recordGemm(batch, out, { a: stored, b: right, mode: "set" });
      batch.output(stored.slot, bits);
      batch.output(out.slot, c);
      await batch.run(gpu);
      return results(bits, c);
    },
    async want(linalg, random) {
      const { a, b } = operands(random);
      const bits = Uint16Array.from(a, narrow), c = new Float32Array(M * N);
      const widened = matrix(Float32Array.from(bits, widen), M, K);
      await linalg.gemmF32(matrix(c, M, N), widened, matrix(b, K, N), "set");
      return results(bits, c);
    },
  };
}

function operands(random: Random) {
  const a = new Float32Array(M * K), b = new Float32Array(K * N);
  fillNormal(a, random);
  fillNormal(b, random);
  return { a, b };
}

function results(bits: Uint16Array, c: Float32Array): Result[] {
  return [{ values: bits, tolerance: 0 }, { values: c, tolerance: 1e-5 }];
}
