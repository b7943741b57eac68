/** Where the values of a weight come from: plain data that workers decode by, whatever format it is stored in. */

import type { FloatDType } from "../core/dtype.ts";
import type { LoraDelta } from "../lora/lora_delta.ts";

/** The stored scales of an already quantized source: F32, row-major over groups. */
export interface SourceScale {
  readonly file: number;
  readonly offsetBytes: number;
  readonly dtype: FloatDType;
  readonly groupRows: number;
  readonly groupCols: number;
}

/** Where the signs of codes that are stored transformed are; codes and scales have the padded sizes. */
export interface SourceTransform {
  /** Padded sizes, powers of 2. */
  readonly rows: number;
  readonly cols: number;
  readonly signRow: { readonly file: number; readonly offsetBytes: number };
  readonly signCol: { readonly file: number; readonly offsetBytes: number };
}

/** Where the values of a matrix come from, and how its bytes become f32 values in original space. */
export interface MatrixSource {
  readonly name: string;
  readonly file: number;
  readonly offsetBytes: number;
  readonly dtype: FloatDType | "I8";
  readonly rows: number;
  readonly cols: number;
  /** Null: the values are as they stand. */
  readonly scale: SourceScale | null;
  /** Regular-Hadamard group the stored values are rotated by, null if not. */
  readonly convrotGroupSize: number | null;
  /** The codes are those of the transformed weight; every rectangle is then all of it. */
  readonly transform?: SourceTransform;
  /** What every column is multiplied by, after all else, f32 `[cols]`; SmoothQuant. */
  readonly columnFactors?: Float32Array;
  /** What every row is multiplied by, f32 `[rows]`. */
  readonly rowFactors?: Float32Array;
  /** Where the factors are that stored columns were multiplied by: they are divided out again. */
  readonly smoothFactors?: { readonly file: number; readonly offsetBytes: number };
  /** LoRAs that are added to the decoded values, in order; every rectangle then has whole rows. */
  readonly deltas?: readonly LoraDelta[];
}
