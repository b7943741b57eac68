/** The kernels in plain TypeScript: what every backend is measured against. Slow, and meant to be. */

import type { CpuKernels } from "../backend.ts";
import { absmax } from "./absmax.ts";
import { castF16 } from "./cast_f16.ts";
import { addColumns, addSquares } from "./column_sums.ts";
import { countNonFinite } from "./count_non_finite.ts";
import { decode } from "./decode.ts";
import { dequantize } from "./dequantize.ts";
import { errorStats } from "./error_stats.ts";
import { histogram } from "./histogram.ts";
import { packLevels } from "./pack_levels.ts";
import { quantize } from "./quantize.ts";
import { codeErrors, quantizeBf16Rows, quantizeErrors } from "./quantize_errors.ts";
import { quantizeLevels } from "./quantize_levels.ts";
import { rotate } from "./rotate.ts";
import { rotateBf16Rows } from "./rotate_bf16_rows.ts";
import { rotatedAbsmax } from "./rotated_absmax.ts";
import { roundToSteps } from "./round_to_steps.ts";
import { roundFloats } from "./round_floats.ts";
import { roundToTable } from "./round_to_table.ts";
import { multiplyRows, weighDifferences } from "./row_sums.ts";
import { haveSameBytes } from "./same_bytes.ts";
import { scaleFromAbsmax } from "./scale_from_absmax.ts";
import { searchClip } from "./search_clip.ts";
import { searchLevels } from "./search_levels.ts";
import { searchScale } from "./search_scale.ts";
import { squaredError } from "./squared_error.ts";
import { subtract } from "./subtract.ts";

/** {@link CpuKernels} that define what is correct. Views may lie in any buffer. */
export const referenceKernels: CpuKernels = Object.freeze({
  name: "reference",
  absmax,
  addColumns,
  addSquares,
  castF16,
  codeErrors,
  countNonFinite,
  decode,
  dequantize,
  errorStats,
  haveSameBytes,
  histogram,
  multiplyRows,
  packLevels,
  quantize,
  quantizeBf16Rows,
  quantizeErrors,
  quantizeLevels,
  rotate,
  rotateBf16Rows,
  rotatedAbsmax,
  roundFloats,
  roundToSteps,
  roundToTable,
  scaleFromAbsmax,
  searchClip,
  searchLevels,
  searchScale,
  squaredError,
  subtract,
  weighDifferences,
});
