/**
 * The linear algebra kernels: one idea per file, under the same stem as
 * `src/backend/reference/linalg`. `src/backend/cpu/wasm_linalg.ts` calls these exports; sizes and strides
 * are in elements, addresses in bytes. Larger operations are built from them in `src/linalg`.
 */

export { addLowRank } from "./add_low_rank";
export { addRotatedDiagonal } from "./add_rotated_diagonal";
export { choleskyBlock } from "./cholesky_block";
export { copyRowsF64 } from "./copy_rows";
export { descendRows } from "./descend_rows";
export { feedBack, packErrors, packFactor } from "./feed_back_i16";
export { feedBackI8, packErrorsI8, packFactorI8 } from "./feed_back_i8";
export {
  gemmF32, gemmF32F64, gemmF32ToF64, gemmF64, gemmF64ByF32, gemmWorkspaceBytes,
} from "./gemm";
export { gemmI8 } from "./gemm_i8";
export { gramI16 } from "./gram_i16";
export {
  hadamardColumnsF32, hadamardColumnsF64, hadamardRowsF32, hadamardRowsF64,
} from "./hadamard";
export { ldlqBlock } from "./ldlq_block";
export { ldlqChosenLevels, ldlqLevels } from "./ldlq_levels";
export {
  gatherColumnsF32, gatherColumnsI8, permuteColumns, permuteRows, scatterColumnsF32, scatterColumnsI8,
} from "./permute";
export { rotateColumnsF64, rotateRowsF64 } from "./rotate_f64";
export { scaleSums } from "./scale_sums";
export { solveBlock } from "./solve_block";
export { divideColumns, unitLowerPanel } from "./unit_lower_panel";
export { weighSquares } from "./weigh_squares";
