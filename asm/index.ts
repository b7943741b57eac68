/**
 * The CPU kernels: one per file, under the same stem as `src/backend/reference` and `wgsl`.
 * `src/backend/cpu/wasm_kernels.ts` calls these exports; sizes are in elements, addresses in bytes.
 */

export { absmax } from "./absmax";
export { castF16 } from "./cast_f16";
export { addColumns, addSquares } from "./column_sums";
export { countNonFinite, firstNonFinite } from "./count_non_finite";
export {
  decodeBf16,
  decodeF16,
  decodeF32,
  decodeF64,
  decodeF8E4m3,
  decodeF8E5m2,
} from "./decode";
export { dequantize } from "./dequantize";
export { errorStats } from "./error_stats";
export { histogram } from "./histogram";
export { packLevels } from "./pack_levels";
export { quantize } from "./quantize";
export { codeErrors, quantizeBf16Rows, quantizeErrors } from "./quantize_errors";
export { quantizeLevels } from "./quantize_levels";
export { rotate, rotateBf16Rows, rotatedAbsmax } from "./rotate";
export { roundFloats } from "./round_floats";
export { roundToSteps } from "./round_to_steps";
export { roundToTable } from "./round_to_table";
export { multiplyRows, weighDifferences } from "./row_sums";
export { sameBytes } from "./same_bytes";
export { opaqueZero } from "./lib/constants";
export { scaleFromAbsmax } from "./scale_from_absmax";
export { searchClip } from "./search_clip";
export { searchLevels } from "./search_levels";
export { searchScale } from "./search_scale";
export { squaredError } from "./squared_error";
export { subtract } from "./subtract";
