/**
 * The linear algebra of a worker whose run has a GPU: products and Hadamard transforms that are large enough
 * to be worth the way go there, one by one; all else, and what the device could not do, the CPU does. What
 * the GPU gives is close, not the same bits: sums run in another order.
 *
 * Cost of a product of m x k by k x n: 4 (m k + k n + 2 m n) bytes moved for 2 m n k operations.
 */

import type { GemmMode, LinalgKernels } from "../../linalg/linalg_kernels.ts";
import type { Matrix, MatrixF32 } from "../../linalg/matrix.ts";
import type { GpuCheck } from "../checks/gpu_check.ts";
import { gemmF32Check, gemmI8Check, hadamardCheck } from "../checks/product_check.ts";
import {
  type GpuAccess,
  type LinalgRequest,
  type OffloadedKernels,
  packArrays,
} from "../gpu_requests.ts";
import type { LinalgPlacement } from "../gpu_tasks.ts";

/** Returns `cpu` with its large operations done by `gpu`. */
export function offloadedLinalg(
  cpu: LinalgKernels,
  gpu: GpuAccess,
  placement: LinalgPlacement,
): LinalgKernels {
  const run = <K extends keyof OffloadedKernels>(
    check: GpuCheck,
    kernel: K,
    ...args: OffloadedKernels[K]
  ): boolean => gpu.run(linalgRequest(kernel, args), check);
  const products = (m: number, n: number, k: number): boolean =>
    m * n * k >= placement.leastProducts &&
    Math.max(m * k, k * n, m * n) <= placement.mostElements;
  const hadamard = (x: Matrix<Float32Array | Float64Array>): x is MatrixF32 =>
    x.data instanceof Float32Array && isDense(x) &&
    x.rows * x.cols >= placement.leastHadamard &&
    x.rows * x.cols <= Math.min(placement.mostHadamard, placement.mostElements);
  // Own properties of a class instance do not spread: methods are bound one by one.
  const bound = Object.fromEntries(
    METHODS.map((name) => [name, (...args: unknown[]) => (cpu[name] as Method).apply(cpu, args)]),
  ) as unknown as LinalgKernels;
  return {
    ...bound,
    name: cpu.name,
    gemmF32(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): void {
      // Bytes between the rows of C may be of others, and would be written over.
      const suits = isDense(c) && products(c.rows, c.cols, a.cols) && isCompact(a) && isCompact(b);
      const isDone = suits && run(gemmF32Check(c, a, b, mode), "gemmF32", c, a, b, mode);
      if (!isDone) cpu.gemmF32(c, a, b, mode);
    },
    gemmI8(out, a, b, m, n, k): void {
      const isDone = products(m, n, k) &&
        run(gemmI8Check(out, a, b, { m, n, k }), "gemmI8", out, a, b, m, n, k);
      if (!isDone) cpu.gemmI8(out, a, b, m, n, k);
    },
    hadamardRows(x): void {
      const isDone = hadamard(x) && run(hadamardCheck(x, "rows"), "hadamardRows", x);
      if (!isDone) cpu.hadamardRows(x);
    },
    hadamardColumns(x): void {
      const isDone = hadamard(x) && run(hadamardCheck(x, "columns"), "hadamardColumns", x);
      if (!isDone) cpu.hadamardColumns(x);
    },
  };
}

function linalgRequest<K extends keyof OffloadedKernels>(
  kernel: K,
  args: OffloadedKernels[K],
): LinalgRequest {
  // The compiler does not see that kernel and arguments belong together, which K says.
  return { op: "linalg", kernel, args: packArrays(args) } as unknown as LinalgRequest;
}

type Method = (...args: unknown[]) => unknown;

/** Every kernel, which the compiler checks. */
const METHODS = Object.keys(
  {
    gemmF32: true,
    gemmF64: true,
    gemmF32F64: true,
    gemmF32ToF64: true,
    gemmF64ByF32: true,
    gemmI8: true,
    choleskyBlock: true,
    solveBlock: true,
    unitLowerPanel: true,
    divideColumns: true,
    weighSquares: true,
    packErrors: true,
    packFactor: true,
    feedBack: true,
    packErrorsI8: true,
    packFactorI8: true,
    feedBackI8: true,
    gramI16: true,
    ldlqBlock: true,
    ldlqLevels: true,
    descendRows: true,
    rotateRowsF64: true,
    rotateColumnsF64: true,
    hadamardRows: true,
    hadamardColumns: true,
    addLowRank: true,
    gatherColumns: true,
    scatterColumns: true,
    permuteSymmetric: true,
    copyRows: true,
    addRotatedDiagonal: true,
    scaleSums: true,
  } satisfies Record<Exclude<keyof LinalgKernels, "name">, true>,
) as Exclude<
  keyof LinalgKernels,
  "name"
>[];

/** Whether the rows of `m` lie one behind the other. */
function isDense({ cols, rowStride, colStride, rows }: Matrix<unknown>): boolean {
  return colStride === 1 && (rowStride === cols || rows <= 1);
}

/** Whether little lies between the elements of `m`: all of it goes up. */
function isCompact({ rows, cols, rowStride, colStride }: Matrix<unknown>): boolean {
  return rows * cols === 0 ||
    (rows - 1) * rowStride + (cols - 1) * colStride + 1 <= 2 * rows * cols;
}
