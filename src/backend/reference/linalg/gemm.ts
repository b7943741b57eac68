/** gemm: see `LinalgKernels.gemmF32` and its siblings, `asm/linalg/gemm.ts`. */

import { checkGemm } from "../../../linalg/linalg_checks.ts";
import { GEMM_DEPTH, GEMM_SHORT_DEPTH, type GemmMode } from "../../../linalg/linalg_kernels.ts";
import type { Matrix, MatrixF32, MatrixF64 } from "../../../linalg/matrix.ts";

type Round = (value: number) => number;
type Numbers = Float32Array | Float64Array;

const asIs: Round = (value) => value;

export function gemmF32(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
  checkGemm("gemmF32", c, a, b);
  gemm(c, a, b, mode, Math.fround);
}

export function gemmF64(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void {
  checkGemm("gemmF64", c, a, b);
  gemm(c, a, b, mode, asIs);
}

export function gemmF32F64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
  checkGemm("gemmF32F64", c, a, b);
  gemm(c, a, b, mode, asIs);
}

export function gemmF32ToF64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
  checkGemm("gemmF32ToF64", c, a, b);
  gemm(c, a, b, mode, Math.fround, GEMM_SHORT_DEPTH);
}

export function gemmF64ByF32(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void {
  checkGemm("gemmF64ByF32", c, a, b);
  gemm(c, a, b, mode, Math.fround, GEMM_SHORT_DEPTH);
}

/** Runs of `depth` terms are added up from 0, then join C; `round` before and after every operation. */
function gemm(
  c: Matrix<Numbers>,
  a: Matrix<Numbers>,
  b: Matrix<Numbers>,
  mode: GemmMode,
  round: Round,
  depth: number = GEMM_DEPTH,
): void {
  for (let i = 0; i < c.rows; i++) {
    for (let j = 0; j < c.cols; j++) {
      const at = i * c.rowStride + j;
      if (mode === "set") c.data[at] = 0;
      for (let from = 0; from < a.cols; from += depth) {
        let sum = 0;
        for (let k = from; k < Math.min(from + depth, a.cols); k++) {
          const x = round(a.data[i * a.rowStride + k * a.colStride]!);
          const y = round(b.data[k * b.rowStride + j * b.colStride]!);
          sum = round(sum + round(x * y));
        }
        if (mode === "set" && from === 0) c.data[at] = sum;
        else c.data[at] = mode === "subtract" ? c.data[at]! - sum : c.data[at]! + sum;
      }
    }
  }
}
