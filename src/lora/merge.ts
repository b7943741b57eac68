/**
 * Adds LoRA changes to weights, in f32, from exact products summed in f64: a merged element is the
 * f32 nearest to `w + strength * scaling * sum_r b * a`, but for f64 rounding.
 */

import type { DeltaForm, LoraDelta } from "./lora_delta.ts";

/** The dampening per place in a list of LoRAs. */
export const LORA_DAMPENING = 0.9;

/** Added to the norms of DoRA, as the trainers do: f32's machine epsilon. */
const NORM_EPSILON = 2 ** -23;
/** Columns worked on at a time: four rows of `a` and two of sums stay in the first-level cache. */
const TILE_COLS = 1024;

/**
 * Returns the dampening of the LoRA at `index` (from 0) of the list that the user gave:
 * 1, 0.9, 0.81, ... It counts places in that list, whether or not the earlier ones touch a layer.
 */
export function loraDampening(index: number): number {
  return LORA_DAMPENING ** index;
}

/**
 * Adds the rows of `delta` that fall into a chunk of a weight, in place; the others are ignored, so a
 * weight may be merged in chunks of any size, with the same result. Strength 0 changes nothing.
 *
 * @param chunk whole rows of the weight, f32 `[rows, delta.cols]`.
 * @param delta the change.
 * @param options `rowStart`: the row of the weight that `chunk` begins with (default 0).
 * @throws RangeError if the chunk does not hold whole rows.
 */
export function addLoraDelta(
  chunk: Float32Array,
  delta: LoraDelta,
  { rowStart = 0 }: { rowStart?: number } = {},
): void {
  const { cols, strength } = delta;
  if (chunk.length % cols !== 0) {
    throw new RangeError(
      `Cannot merge LoRA rows: the chunk has ${chunk.length} elements, rows have ${cols}`,
    );
  }
  if (strength === 0) return;
  const first = Math.max(rowStart, delta.rowStart);
  const end = Math.min(rowStart + chunk.length / cols, delta.rowStart + delta.rowCount);
  const sums = [new Float64Array(cols), new Float64Array(cols)] as const;
  const scratch = delta.form.kind === "loha"
    ? [new Float64Array(cols), new Float64Array(cols)] as const
    : sums;
  for (let row = first; row < end; row += 2) {
    const inDelta = row - delta.rowStart;
    const count = Math.min(2, end - row);
    changeRows(delta.form, inDelta, { count, cols, sums, scratch });
    for (let i = 0; i < count; i++) {
      const at = (row + i - rowStart) * cols;
      const weights = chunk.subarray(at, at + cols);
      const magnitude = delta.magnitude?.[inDelta + i];
      if (magnitude === undefined) addRow(weights, sums[i]!, strength * delta.scaling);
      else decomposeRow(weights, sums[i]!, { magnitude, delta });
    }
  }
}

/** w += factor * change. */
function addRow(weights: Float32Array, change: Float64Array, factor: number): void {
  for (let k = 0; k < weights.length; k++) weights[k] = weights[k]! + factor * change[k]!;
}

/**
 * DoRA (arXiv 2402.09353, eq. 5, with norms per output row as PEFT has them):
 * `w' = m * (w + s * change) / |w + s * change|`, taken with `strength` from `w` towards `w'`.
 */
function decomposeRow(
  weights: Float32Array,
  change: Float64Array,
  { magnitude, delta }: { magnitude: number; delta: LoraDelta },
): void {
  let squares = 0;
  for (let k = 0; k < weights.length; k++) {
    const merged = weights[k]! + delta.scaling * change[k]!;
    change[k] = merged;
    squares += merged * merged;
  }
  const factor = magnitude / (Math.sqrt(squares) + NORM_EPSILON);
  const { strength } = delta;
  for (let k = 0; k < weights.length; k++) {
    weights[k] = weights[k]! + strength * (factor * change[k]! - weights[k]!);
  }
}

/** Two rows of sums, f64 `[cols]` each. */
type RowPair = readonly [Float64Array, Float64Array];

/** sums[i] = row `row + i` of the change, for i < count (1 or 2). */
function changeRows(
  form: DeltaForm,
  row: number,
  { count, cols, sums, scratch }: {
    count: number;
    cols: number;
    sums: RowPair;
    scratch: RowPair;
  },
): void {
  switch (form.kind) {
    case "lora":
      productRows(sums, form, { row, count, cols });
      return;
    case "loha":
      productRows(sums, { a: form.a1, b: form.b1, rank: form.rank1 }, { row, count, cols });
      productRows(scratch, { a: form.a2, b: form.b2, rank: form.rank2 }, { row, count, cols });
      for (let i = 0; i < count; i++) {
        for (let k = 0; k < cols; k++) sums[i]![k] = sums[i]![k]! * scratch[i]![k]!;
      }
      return;
    case "lokr":
      for (let i = 0; i < count; i++) kroneckerRow(sums[i]!, form, row + i);
      return;
    case "diff":
      for (let i = 0; i < count; i++) {
        sums[i]!.set(form.values.subarray((row + i) * cols, (row + i + 1) * cols));
      }
      return;
  }
}

/**
 * sums[i] = b[row + i, :] · a. Two rows and four ranks at a time: each element of `a` is loaded once
 * for both rows, each sum once for four ranks. Ranks beyond the last count as zero factors.
 */
function productRows(
  sums: RowPair,
  { a, b, rank }: { a: Float32Array; b: Float32Array; rank: number },
  { row, count, cols }: { row: number; count: number; cols: number },
): void {
  const top = row * rank;
  const bottom = count === 2 ? top + rank : top; // an odd last row is computed twice
  for (let col = 0; col < cols; col += TILE_COLS) {
    const end = Math.min(col + TILE_COLS, cols);
    const sum0 = sums[0].subarray(col, end).fill(0);
    const sum1 = sums[1].subarray(col, end).fill(0);
    for (let r = 0; r < rank; r += 4) {
      const tile = (j: number) => {
        const at = (r + j < rank ? r + j : r) * cols;
        return a.subarray(at + col, at + end);
      };
      const factor = (at: number, j: number) => r + j < rank ? b[at + r + j]! : 0;
      const a0 = tile(0), a1 = tile(1), a2 = tile(2), a3 = tile(3);
      const p0 = factor(top, 0), p1 = factor(top, 1), p2 = factor(top, 2), p3 = factor(top, 3);
      const q0 = factor(bottom, 0), q1 = factor(bottom, 1);
      const q2 = factor(bottom, 2), q3 = factor(bottom, 3);
      for (let k = 0; k < sum0.length; k++) {
        const x0 = a0[k]!, x1 = a1[k]!, x2 = a2[k]!, x3 = a3[k]!;
        sum0[k] = sum0[k]! + (p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3);
        sum1[k] = sum1[k]! + (q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3);
      }
    }
  }
}

/** sum = row `row` of the change: w1[R div rows2, :] ⊗ w2[R mod rows2, :], R counted from firstRow. */
function kroneckerRow(
  sum: Float64Array,
  form: Extract<DeltaForm, { kind: "lokr" }>,
  row: number,
): void {
  const { w1, w2, cols1, cols2, rows2 } = form;
  const productRow = form.firstRow + row;
  const left = Math.floor(productRow / rows2) * cols1;
  const right = (productRow % rows2) * cols2;
  for (let j = 0; j < cols1; j++) {
    const factor = w1[left + j]!;
    for (let k = 0; k < cols2; k++) sum[j * cols2 + k] = factor * w2[right + k]!;
  }
}

/** A low-rank pair, as `loadLoraForMerging` gives it. */
export interface LoraConfig {
  /** f32 `[rank, cols]`. */
  readonly loraA: Float32Array;
  /** f32 `[rows, rank]`. */
  readonly loraB: Float32Array;
  /** Default: the rank, so that the pair counts as it is. */
  readonly alpha?: number | null;
  /** Rows of `loraA`, columns of `loraB`. */
  readonly rank: number;
  /** How much of it is taken. Default: 1. */
  readonly scale?: number;
}

/**
 * Returns `weight + scale * alpha / rank * loraB · loraA`, f32 `[rows, cols]`.
 *
 * @param weight f32 `[rows, cols]`, row-major; left as it is.
 * @throws RangeError if the sizes do not fit, the rank is no positive integer, or alpha or scale is
 *   not finite.
 *
 * @example
 * ```ts
 * const pair = { loraA: new Float32Array([1, 2]), loraB: new Float32Array([3]), rank: 1, alpha: 1 };
 * const merged = mergeLoraIntoWeight(new Float32Array([10, 20]), pair);
 * if (merged[0] !== 13 || merged[1] !== 26) throw new Error("unreachable");
 * ```
 */
export function mergeLoraIntoWeight(weight: Float32Array, lora: LoraConfig): Float32Array {
  const merged = weight.slice();
  addLoraDelta(merged, deltaOf(weight, lora, 1));
  return merged;
}

/**
 * Returns the weight with all pairs merged, in order.
 *
 * @param weight f32 `[rows, cols]`; left as it is.
 * @param loras the pairs. Each counts with its own `scale`.
 * @param options `dampen`: also multiply the n-th pair by 0.9^(n-1). Default: false, because the
 *   scales of a caller that dampens would be dampened twice.
 * @throws RangeError as {@link mergeLoraIntoWeight}.
 */
export function mergeMultipleLoras(
  weight: Float32Array,
  loras: readonly LoraConfig[],
  { dampen = false }: { dampen?: boolean } = {},
): Float32Array {
  const merged = weight.slice();
  loras.forEach((lora, index) => {
    addLoraDelta(merged, deltaOf(weight, lora, dampen ? loraDampening(index) : 1));
  });
  return merged;
}

function deltaOf(weight: Float32Array, lora: LoraConfig, dampening: number): LoraDelta {
  const { loraA, loraB, rank, scale = 1 } = lora;
  const alpha = lora.alpha ?? rank;
  if (!Number.isInteger(rank) || rank <= 0) {
    throw new RangeError(`Cannot merge LoRA: rank is ${rank}, a positive integer is needed`);
  }
  for (const [name, value] of [["alpha", alpha], ["scale", scale]] as const) {
    if (!Number.isFinite(value)) {
      throw new RangeError(`Cannot merge LoRA: ${name} is ${value}, a finite number is needed`);
    }
  }
  const cols = loraA.length / rank;
  const rows = loraB.length / rank;
  if (!Number.isInteger(cols) || !Number.isInteger(rows) || rows * cols !== weight.length) {
    throw new RangeError(
      `Cannot merge LoRA: loraA has ${loraA.length} elements, loraB ${loraB.length}, the weight ` +
        `${weight.length}; rank ${rank} needs loraA.length / rank * loraB.length / rank = weight.length`,
    );
  }
  return {
    rowStart: 0,
    rowCount: rows,
    cols,
    scaling: alpha / rank,
    strength: scale * dampening,
    form: { kind: "lora", rank, a: loraA, b: loraB },
    magnitude: null,
  };
}
