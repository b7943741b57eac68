/** Source of the values of a weight: plain data that workers decode by, whatever format it is stored in. */

import type { SourceTensor } from "../core/tensor.ts";
import type { FloatDType } from "../core/dtype.ts";
import type { LoraDelta } from "../lora/lora_delta.ts";

/** The first byte of something in a file. */
export interface FilePlace {
  readonly file: number;
  readonly offsetBytes: number;
}

/** Dtypes of scales: floats, or the exponents of powers of 2. */
export type ScaleDType = FloatDType | "F8_E8M0";

/** The stored scales of an already quantized source: row-major over groups. */
export interface SourceScale extends FilePlace {
  readonly dtype: ScaleDType;
  readonly groupRows: number;
  readonly groupCols: number;
}

/** Scales of packed codes. */
export interface PackedScale extends SourceScale {
  /**
   * Scales of one byte that stand in tiles of 128 rows x 4, stored `[R / 128, C / 4, 32, 4, 4]`: the C that
   * every row has there, a multiple of 4.
   */
  readonly tiledAcross?: number;
  /** The products are rounded to integers from -127 to 127: what the runtime multiplies with. */
  readonly rounds?: boolean;
}

/** Some bits of the codes of a row. Fields follow one another from the lowest bits on. */
export interface BitField {
  /** Offset of the field in the bytes of a row. */
  readonly firstByte: number;
  readonly bits: 2 | 4 | 8;
  /** The first column of a byte is in its highest bits. */
  readonly highFirst: boolean;
}

/** Codes of at most 8 bits that look up their values in a table, with any number of scales. */
export interface PackedCodes {
  /** Bytes of one stored row. */
  readonly rowBytes: number;
  readonly fields: readonly BitField[];
  /** The value of every code: F32, here or in a file. */
  readonly levels: Float32Array | FilePlace;
  /** How many codes there are: a power of 2. */
  readonly levelCount: number;
  /** Applied one after the other. */
  readonly scales: readonly PackedScale[];
}

/** Place of the signs of codes that are stored transformed; codes and scales have the padded sizes. */
export interface SourceTransform {
  /** Padded sizes, powers of 2. */
  readonly rows: number;
  readonly cols: number;
  readonly signRow: FilePlace;
  readonly signCol: FilePlace;
}

/** Source of the values of a matrix, and how its bytes become f32 values in original space. */
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
  /** Codes share bytes or have more than one scale; `dtype` is I8 and `scale` null then. */
  readonly packed?: PackedCodes;
  /** The codes are those of the transformed weight; all of it is decoded for every rectangle. */
  readonly transform?: SourceTransform;
  /** Factor of every column, after all else, f32 `[cols]`; SmoothQuant. */
  readonly columnFactors?: Float32Array;
  /** Factor of every row, f32 `[rows]`. */
  readonly rowFactors?: Float32Array;
  /** Place of the factors that stored columns were multiplied by: they are divided out again. */
  readonly smoothFactors?: FilePlace;
  /** LoRAs that are added to the decoded values, in order; every rectangle then has whole rows. */
  readonly deltas?: readonly LoraDelta[];
  /** Whether pairs of factors may be added as products of integers (`chunks/merge_rect.ts`); absent: in f32. */
  readonly mergesByIntegers?: boolean;
}

/**
 * Returns the source of a weight whose codes are packed: `codes` is where they lie, `packed` how they are read.
 *
 * @param shape of the weight once it is decoded, and the group it is rotated by; null: it is not.
 */
export function packedMatrix(
  { name, file, offsetBytes }: SourceTensor,
  { rows, cols, convrotGroupSize }: Pick<MatrixSource, "rows" | "cols" | "convrotGroupSize">,
  packed: PackedCodes,
): MatrixSource {
  return {
    ...{ name, file, offsetBytes, dtype: "I8", rows, cols },
    scale: null,
    convrotGroupSize,
    packed,
  };
}

/** Whether the runtime multiplies the weight as int8, so that its inputs become int8 too. */
export function runsInInt8({ dtype, scale, packed }: MatrixSource): boolean {
  return (dtype === "I8" && scale !== null) ||
    (packed?.scales.some(({ rounds }) => rounds === true) ?? false);
}

/** Returns `matrix` with all its files counted from `offset` on: if its model is one of several of a run. */
export function withFileOffset(matrix: MatrixSource, offset: number): MatrixSource {
  if (offset === 0) return matrix;
  const { scale, packed, transform, smoothFactors } = matrix;
  const moved = <T extends FilePlace>(place: T): T => ({ ...place, file: place.file + offset });
  return {
    ...moved(matrix),
    scale: scale === null ? null : moved(scale),
    ...(packed === undefined ? {} : {
      packed: {
        ...packed,
        levels: "file" in packed.levels ? moved(packed.levels) : packed.levels,
        scales: packed.scales.map(moved),
      },
    }),
    ...(transform === undefined ? {} : {
      transform: {
        ...transform,
        signRow: moved(transform.signRow),
        signCol: moved(transform.signCol),
      },
    }),
    ...(smoothFactors === undefined ? {} : { smoothFactors: moved(smoothFactors) }),
  };
}
