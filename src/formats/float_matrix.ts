/** Weights that are floats: how their values are read. */

import { isFloatDType } from "../core/dtype.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { rowsOf } from "./layer_shapes.ts";
import type { MatrixSource } from "./matrix_source.ts";

/** Returns how the values of a float tensor are read: 2-D and banks of matrices by row, other ranks as one row. */
export function floatMatrix(source: SourceTensor): MatrixSource {
  if (!isFloatDType(source.dtype)) {
    throw new UnsupportedError(
      `Cannot quantize tensor ${JSON.stringify(source.name)}: ${source.dtype} holds no floats`,
    );
  }
  const { rows, cols } = rowsOf(source.shape);
  return {
    name: source.name,
    file: source.file,
    offsetBytes: source.offsetBytes,
    dtype: source.dtype,
    rows,
    cols,
    scale: null,
    convrotGroupSize: null,
  };
}
