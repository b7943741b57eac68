/** The linear algebra kernels in plain TypeScript: what every backend is measured against. */

import type { LinalgKernels } from "../../../linalg/linalg_kernels.ts";
import { addLowRank } from "./add_low_rank.ts";
import { addRotatedDiagonal } from "./add_rotated_diagonal.ts";
import { choleskyBlock } from "./cholesky_block.ts";
import { copyRows } from "./copy_rows.ts";
import { descendRows } from "./descend_rows.ts";
import { feedBack, packErrors, packFactor } from "./feed_back_i16.ts";
import { feedBackI8, packErrorsI8, packFactorI8 } from "./feed_back_i8.ts";
import { gemmF32, gemmF32F64, gemmF32ToF64, gemmF64, gemmF64ByF32 } from "./gemm.ts";
import { gemmI8 } from "./gemm_i8.ts";
import { gramI16 } from "./gram_i16.ts";
import { ldlqBlock } from "./ldlq_block.ts";
import { ldlqLevels } from "./ldlq_levels.ts";
import { hadamardColumns, hadamardRows } from "./hadamard.ts";
import { gatherColumns, permuteSymmetric, scatterColumns } from "./permute.ts";
import { rotateColumnsF64, rotateRowsF64 } from "./rotate_f64.ts";
import { scaleSums } from "./scale_sums.ts";
import { solveBlock } from "./solve_block.ts";
import { divideColumns, unitLowerPanel } from "./unit_lower_panel.ts";
import { weighSquares } from "./weigh_squares.ts";

/** {@link LinalgKernels} on any typed arrays. */
export const referenceLinalg: LinalgKernels = Object.freeze<LinalgKernels>({
  name: "reference",
  choleskyBlock,
  descendRows,
  divideColumns,
  feedBack,
  feedBackI8,
  gemmF32,
  gemmF32F64,
  gemmF64,
  gemmF32ToF64,
  gemmF64ByF32,
  gemmI8,
  gramI16,
  ldlqBlock,
  ldlqLevels,
  packErrors,
  packErrorsI8,
  packFactor,
  packFactorI8,
  addLowRank,
  addRotatedDiagonal,
  copyRows,
  gatherColumns,
  hadamardColumns,
  hadamardRows,
  permuteSymmetric,
  rotateColumnsF64,
  rotateRowsF64,
  scaleSums,
  scatterColumns,
  solveBlock,
  unitLowerPanel,
  weighSquares,
});
