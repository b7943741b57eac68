/** What is made of the inputs of a layer before its rows are rounded: nothing of it depends on its weights. */

import type { MatrixF32 } from "../../linalg/matrix.ts";
import type { GptqFactor } from "../../quant/gptq.ts";
import type { RowSpaceLayer } from "./row_space_layer.ts";

/** What rounding goes by. Arrays are shared by the team, and only read. */
export type FittedInputs = FittedColumns | FittedRows;

interface Judged {
  /** Inputs that nothing was fitted to, f32 `[K, inputs]`; null: none. */
  readonly heldOut: MatrixF32 | null;
}

/** The factored K x K Hessian. */
export interface FittedColumns extends Judged {
  readonly factor: GptqFactor;
  /** Energies of the input channels, f64 `[K]`, if rows are held to them; null: they are not. */
  readonly guard: Float64Array | null;
}

/** The rows of inputs, factored. */
export interface FittedRows extends Judged {
  readonly inRowSpace: RowSpaceLayer;
}
