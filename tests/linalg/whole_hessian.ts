/** The Hessian of inputs that are all in memory, made from the pieces that the pipeline feeds in parts. */

import type { LinalgContext } from "../../src/linalg/context.ts";
import {
  addGram,
  finishGram,
  type Hessian,
  hessianBlock,
  shrinkageOf,
  shrinkToDiagonal,
} from "../../src/linalg/hessian.ts";
import type { MatrixF32 } from "../../src/linalg/matrix.ts";

/** Returns XᵀX / T, shrunk toward its diagonal, in memory of `context`. `x` is f32 `[T, K]`. */
export function hessianOfInputs(context: LinalgContext, x: MatrixF32): Hessian {
  const size = x.cols, values = context.memory.f64(size * size).fill(0);
  const hessian: Hessian = { size, blockSize: size, values, source: "activations" };
  const h = hessianBlock(hessian, 0);
  addGram(context, h, x);
  finishGram(context, h, x.rows);
  shrinkToDiagonal(context, h, shrinkageOf(x.rows, size));
  return hessian;
}
