/**
 * The linear algebra every backend has, on matrix views. `backend/reference/linalg` says what the kernels
 * compute, `backend/cpu` runs the same on WASM SIMD, bit for bit; what is large (factors, Hessians,
 * rounding of whole layers) is built from them in this folder, once.
 *
 * All are *exact*: the same bits on every backend and for every split of the output rows over workers,
 * except that a NaN may be any NaN. Views given to the CPU backend must lie in its WebAssembly memory.
 * Outputs may not overlap inputs. All throw a RangeError, before they write, if sizes do not fit.
 */

import type { Matrix, MatrixF32, MatrixF64 } from "./matrix.ts";

/** Effect of a product on C: C = A·B, C += A·B, C -= A·B. */
export type GemmMode = "set" | "add" | "subtract";

/**
 * Terms a product adds up before they reach C (`asm/linalg/gemm.ts`). A sum over more terms can be cut
 * into several products at multiples of this, with the same bits.
 */
export const GEMM_DEPTH = 256;

/** The same for `gemmF64ByF32`. */
export const GEMM_SHORT_DEPTH = 64;

/** Most terms for which `gemmI8` cannot overflow: 128 * 128 * 131071 < 2^31. */
export const GEMM_I8_TERMS_MAX = 131071;

/** Most terms of one `feedBack`: sums of so many stay below 2^31. */
export const FEED_BACK_TERMS_MAX = 128;

/**
 * Rows of inputs that `gramI16` takes at a time, packed with a scale for every channel. The fewer, the more bits the
 * integers have.
 */
export const GRAM_RUN = 64;

/**
 * A matrix of 16-bit integers with a scale for every row (errors) or column (factor), packed for
 * `feedBack`: pairs of terms, in the order that `asm/linalg/feed_back_i16.ts` describes.
 */
export interface ShortMatrix {
  readonly pairs: Int32Array;
  readonly scales: Float32Array;
}

/** Terms of `feedBackI8` that share scales. */
export const BYTE_RUN = 128;

/**
 * The same in bytes, packed for `feedBackI8`: quads of terms, in the order that `asm/linalg/feed_back_i8.ts`
 * describes; those of a factor with one more for every column.
 */
export interface ByteMatrix {
  readonly quads: Int32Array;
  readonly scales: Float32Array;
}

/** Operands of `gramI16` besides the matrices. */
export interface GramI16 {
  /** Rows of inputs. */
  readonly terms: number;
  /** Rows of the result that are made, multiples of 8. */
  readonly first: number;
  readonly end: number;
  /** What moments are multiplied by. */
  readonly factor: number;
  /** Whether they are added to what is there. */
  readonly add: boolean;
}

/** Operands of `ldlqBlock`: some rows of one block of neighbouring columns. */
export interface LdlqBlock {
  /** Output: the codes. `rows x width`, rows `codesRowStride` apart. */
  readonly codes: Int8Array;
  readonly codesRowStride: number;
  /** In: the weights. Out: what rounding took from them, `w - code * scale`. f32 `[rows, width]`. */
  readonly weights: MatrixF32;
  /**
   * In: what blocks already rounded feed back. Contents are used up. f32 `[rows, width]`, stride a multiple
   * of 4.
   */
  readonly feedback: MatrixF32;
  /** The unit lower factor of the block, f32 `[width, width]`, stride a multiple of 4. */
  readonly panel: MatrixF32;
  /** All scales of the layer, f32, row-major `[row groups, scaleCols]`. */
  readonly scales: Float32Array;
  readonly scaleCols: number;
  /** Rows of the layer that share a scale. */
  readonly groupRows: number;
  /** Row of the layer that the first row of `weights` is. */
  readonly firstRow: number;
  /** For each of the `width` columns, which of the `scaleCols` scales it has. */
  readonly columnGroups: Int32Array;
}

/** The levels of a block, if they are not all integers from -127 to 127: see `LevelSets`. */
export interface BlockLevels {
  /** The set of every group of the rows, u8 `[rows of the layer, across]`, row-major. */
  readonly choices: Uint8Array;
  readonly across: number;
  /** For each of the columns, which of the `across` groups it is in. */
  readonly columnSets: Int32Array;
  /** i8 `[sets, LEVEL_TABLE]`. */
  readonly nearest: Int8Array;
  /** How sets are chosen when their columns are reached; null or absent: they stay. */
  readonly search?: BlockSearch | null;
}

/**
 * The choice of sets: columns of a group stand side by side under one scale, and blocks have whole groups. A group
 * is rounded with each of LEVELS_TRIED sets, which feed back into the rest of it each in its own way, and gets the
 * one with the least squared error; of several the first, which is the highest.
 */
export interface BlockSearch {
  /** Columns of a group, a multiple of 16. */
  readonly groupCols: number;
  /** As in `LevelSearch`. The first set that is tried is {@link LEVELS_ABOVE} above, the others are those before it. */
  readonly first: Uint8Array;
  /** Room: f32 `[groupCols, LEVELS_TRIED]`. */
  readonly spare: Float32Array;
}

/** How many sets are tried for a group whose errors are compensated. */
export const LEVELS_TRIED = 8;

/** How far above the first candidate of a search without compensation they begin. */
export const LEVELS_ABOVE = 3;

/** Operands of `ldlqLevels`. */
export interface LdlqLevels extends LdlqBlock {
  readonly levels: BlockLevels;
}

/** Operands of `descendRows`: a tile of a layer whose codes are moved if that lowers a loss. */
export interface DescendRows {
  /** In and out: the codes. `rows x cols`, rows `codesRowStride` apart. */
  readonly codes: Int8Array;
  readonly codesRowStride: number;
  /** In and out: code * scale - weight. f32 `[rows, cols]`. */
  readonly errors: MatrixF32;
  /** In and out: half the gradient of the loss by the errors. f32 `[rows, width]`. */
  readonly gradient: MatrixF32;
  /** Column of `gradient` and `panel` that belongs to the first column of the tile. */
  readonly offset: number;
  /** How a move in each column changes the gradient of a row of weight 1. f32 `[cols, width]`. */
  readonly panel: MatrixF32;
  /** Weight of a move in each row. f32 `[rows]`. */
  readonly weights: Float32Array;
  /** f32 `[rows, rank]`, rank 0 or more. */
  readonly factors: MatrixF32;
  /** In and out: grows by movesᵀ·factors. f32 `[cols, rank]`. */
  readonly sums: MatrixF32;
  /** In and out, f64 `[3]`: grows by the number of moves, what they change the loss by, and the squared error. */
  readonly totals: Float64Array;
  /** All scales of the layer, as in {@link LdlqBlock}. */
  readonly scales: Float32Array;
  readonly scaleCols: number;
  readonly groupRows: number;
  readonly firstRow: number;
  /** For each of the columns, which of the `scaleCols` scales it has. */
  readonly columnGroups: Int32Array;
  /** Weight of the squared error beside the loss, 0 or more; infinity: nothing moves that adds to it. */
  readonly penalty: number;
}

/** Rows of floats or of codes; what comes out is of the kind that goes in. */
export type ShortRows = Matrix<Float32Array> | Matrix<Int8Array>;

/** The operations that differ between devices. Outputs first. */
export interface LinalgKernels {
  readonly name: "reference" | "wasm";

  /** C = A·B, C += A·B or C -= A·B in f32; any strides for A and B, rows contiguous in C. */
  gemmF32(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): void;

  /** The same in f64. */
  gemmF64(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void;

  /**
   * The same on f64 matrices whose elements are rounded to f32, with products, and sums of
   * GEMM_SHORT_DEPTH of them, in f32; sums join C in f64. Twice as fast, off by at most
   * (GEMM_SHORT_DEPTH + 2) * 2^-24 of the sum of the terms' magnitudes.
   */
  gemmF64ByF32(c: MatrixF64, a: MatrixF64, b: MatrixF64, mode: GemmMode): void;

  /** The same as `gemmF64ByF32` with f32 inputs. */
  gemmF32ToF64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void;

  /** The same with f32 inputs, and products and sums in f64. */
  gemmF32F64(c: MatrixF64, a: MatrixF32, b: MatrixF32, mode: GemmMode): void;

  /**
   * out[i, j] = sum over k of a[i, k] * b[j, k]; contiguous row-major `a [m, k]`, `b [n, k]`,
   * `out [m, n]`, k at most GEMM_I8_TERMS_MAX. Any int8.
   */
  gemmI8(out: Int32Array, a: Int8Array, b: Int8Array, m: number, n: number, k: number): void;

  /**
   * Replaces the lower triangle of a small square `a` by its Cholesky factor. Returns -1, or the first
   * index whose pivot is not above `minPivot` (or not a number, or infinite). Use
   * {@link file://./cholesky.ts} for large ones.
   */
  choleskyBlock(a: MatrixF64, minPivot: number): number;

  /** Replaces `x` by the solution X of X·Lᵀ = x, for a small lower triangular `l`. */
  solveBlock(x: MatrixF64, l: MatrixF64): void;

  /**
   * out = the columns of `l`, divided by their diagonal elements, 1 on the diagonal and 0 above it;
   * `l` and `out` are a block column from its diagonal down, `diagonal` f64 `[cols]`.
   */
  unitLowerPanel(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void;

  /** out = the columns of `l`, row-major, divided by `diagonal`, f64 `[cols]`, and rounded to f32. */
  divideColumns(out: MatrixF32, l: MatrixF64, diagonal: Float64Array): void;

  /**
   * out[i] = the sum of (x[i, j] * weights[j])² over row i, in f64, from left to right; weights f64 `[cols]`, all 1 if
   * null.
   */
  weighSquares(out: Float64Array, x: MatrixF32, weights: Float64Array | null): void;

  /**
   * Packs errors f32 `[rows, terms]`, with as many bits as sums of products allow. `out` has room for
   * rows up to a multiple of 4: so many scales, and times `ceil(terms / 2)` pairs.
   */
  packErrors(out: ShortMatrix, e: MatrixF32): void;

  /**
   * Packs a part of a factor, f32 `[terms, cols]`, terms at most FEED_BACK_TERMS_MAX, cols a multiple of
   * 8, the same way.
   */
  packFactor(out: ShortMatrix, l: MatrixF32): void;

  /**
   * c = e·l, or c += e·l if `add`, of packed matrices of `terms` terms; c has a multiple of 4 rows and
   * of 8 columns. Off by about 2^-13 of a product's usual size with 128 terms, half of that with 32.
   */
  feedBack(c: MatrixF32, e: ShortMatrix, l: ShortMatrix, terms: number, add: boolean): void;

  /**
   * Packs errors f32 `[rows, terms]`, terms at most BYTE_RUN, into integers within 63. `out` has room for rows up to a
   * multiple of 4: so many scales, and times `ceil(terms / 4)` quads.
   */
  packErrorsI8(out: ByteMatrix, e: MatrixF32): void;

  /**
   * Packs a part of a factor, f32 `[terms, cols]`, terms at most BYTE_RUN, cols a multiple of 8, into integers within
   * 127. `out` has room for so many scales, and times `ceil(terms / 4) + 1` quads.
   */
  packFactorI8(out: ByteMatrix, l: MatrixF32): void;

  /**
   * c = e·l, or c += e·l if `add`, of matrices of `terms` terms, packed in runs of BYTE_RUN that lie one behind the
   * other; c has a multiple of 4 rows and of 8 columns. Off by about a hundredth of a product's usual size.
   */
  feedBackI8(c: MatrixF32, e: ByteMatrix, l: ByteMatrix, terms: number, add: boolean): void;

  /**
   * h[i, j] = factor * (xᵀ·x)[i, j] for rows `first .. end` and j <= i, and the same for h[j, i]; or both are
   * increased by it. h is square, of a multiple of 8. x `[terms, K]` is packed by `packFactor` in runs of GRAM_RUN
   * terms, one behind the other. The moments are those of inputs that are off by at most 2^-16 of the norm of their
   * channel's run, summed up in f32 by runs.
   */
  gramI16(h: MatrixF64, x: ShortMatrix, args: GramI16): void;

  /** Rounds one block of columns from the last to the first, each corrected by the errors of those before. */
  ldlqBlock(args: LdlqBlock): void;

  /** The same to the nearest of few levels, as `quantizeLevels` takes them; sets may be chosen on the way. */
  ldlqLevels(args: LdlqLevels): void;

  /** Moves codes to the other side of their weights, one after the other, if that lowers a loss. */
  descendRows(args: DescendRows): void;

  /** out[i, k] = x[i, order[k]], row-major; `order` has every column once. */
  gatherColumns(out: ShortRows, x: ShortRows, order: Int32Array): void;

  /** out[i, order[k]] = x[i, k], row-major: undoes `gatherColumns`. */
  scatterColumns(out: ShortRows, x: ShortRows, order: Int32Array): void;

  /** h[i, j] = h[order[i], order[j]] in place; spare f64 `[n]`, used up. */
  permuteSymmetric(h: MatrixF64, order: Int32Array, spare: Float64Array): void;

  /** to = from, row-major. */
  copyRows(to: MatrixF64, from: MatrixF64): void;

  /**
   * h += Rᵀ·D·R, R the normalised regular Hadamard matrix of h's size, a power of 4, and D the diagonal matrix for
   * which the first row of that is `row`, f64.
   */
  addRotatedDiagonal(h: MatrixF64, row: Float64Array): void;

  /**
   * out[i, j] = sums[i, j] * rowScales[i] * colScales[j], or is increased by it: contiguous, in f32, from left to
   * right, every step rounded.
   */
  scaleSums(
    out: Float32Array,
    sums: Int32Array,
    scales: { readonly rowScales: Float32Array; readonly colScales: Float32Array },
    add: boolean,
  ): void;

  /** Every run of `groupSize` values along the rows times the normalised regular Hadamard matrix. */
  rotateRowsF64(x: MatrixF64, groupSize: number): void;

  /** The same down the columns. */
  rotateColumnsF64(x: MatrixF64, groupSize: number): void;

  /**
   * Every row, a power of 2 long, times the orthonormal Sylvester Hadamard matrix, which is its own
   * inverse.
   */
  hadamardRows(x: Matrix<Float32Array | Float64Array>): void;

  /** The same for every column. */
  hadamardColumns(x: Matrix<Float32Array | Float64Array>): void;

  /**
   * x += b·a for a small number of terms, sums first: contiguous row-major x f32 `[rows, cols]`,
   * b `[rows, rank]`, a `[rank, cols]`. The merge of a LoRA.
   */
  addLowRank(
    x: Float32Array,
    b: Float32Array,
    a: Float32Array,
    shape: { readonly rows: number; readonly cols: number; readonly rank: number },
  ): void;
}
