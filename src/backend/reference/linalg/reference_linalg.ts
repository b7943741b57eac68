/** The linear algebra kernels in plain TypeScript: what every backend is measured against. */

import type { LinalgKernels } from "../../../linalg/linalg_kernels.ts";
import { addLowRank } from "./add_low_rank.ts";
import { choleskyBlock } from "./cholesky_block.ts";
import { descendRows } from "./descend_rows.ts";
import { feedBack, packErrors, packFactor } from "./feed_back_i16.ts";
import { feedBackI8, packErrorsI8, packFactorI8 } from "./feed_back_i8.ts";
import { gemmF32, gemmF32F64, gemmF32ToF64, gemmF64, gemmF64ByF32 } from "./gemm.ts";
import { gemmI8 } from "./gemm_i8.ts";
import { gramI16 } from "./gram_i16.ts";
import { ldlqBlock } from "./ldlq_block.ts";
import { ldlqLevels } from "./ldlq_levels.ts";
import { hadamardColumns, hadamardRows } from "./hadamard.ts";
import { rotateColumnsF64, rotateRowsF64 } from "./rotate_f64.ts";
import { solveBlock } from "./solve_block.ts";
import { unitLowerPanel } from "./unit_lower_panel.ts";

/** {@link LinalgKernels} on any typed arrays. */
export const referenceLinalg: LinalgKernels = Object.freeze<LinalgKernels>({
  name: "reference",
  choleskyBlock,
  descendRows,
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
  hadamardColumns,
  hadamardRows,
  rotateColumnsF64,
  rotateRowsF64,
  solveBlock,
  unitLowerPanel,
});
