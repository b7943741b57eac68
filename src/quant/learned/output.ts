/**
 * The loss with data: tr(E H Eᵀ), the mean squared error of the layer's outputs on inputs whose second
 * moments are H. Rows are independent, so some rows of a layer will do.
 *
 * Kept is half its gradient, E·H. A move by d at (i, j) adds d times row j of H to row i of it.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "../../linalg/context.ts";
import { block, matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import {
  type GradientObjective,
  type Layer,
  type LossPlan,
  type Moves,
  squaredNorm,
} from "./layer.ts";

/** Second moments in f32: square blocks along the diagonal, one below the other. */
export interface MomentBlocks {
  readonly size: number;
  /** Divides `size`. */
  readonly blockSize: number;
  /** f32 `[size, blockSize]`, symmetric blocks. */
  readonly values: Float32Array;
}

/** As in `projected.ts`: outliers among the channels make the mean large as it is. */
const PENALTY = 8;

/** Initial weight of squared errors of the weights. */
export function outputUnit({ size, blockSize, values }: MomentBlocks): number {
  let trace = 0;
  for (let j = 0; j < size; j++) trace += values[j * blockSize + j % blockSize]!;
  return PENALTY * trace / size;
}

function roomForLoss(
  memory: Pick<Allocator, "f32" | "f64">,
  { rows, cols }: Pick<Layer["grid"], "rows" | "cols">,
  gradients: boolean,
) {
  return {
    gradient: memory.f32(rows * cols),
    average: gradients ? memory.f32(rows * cols) : null,
    weights: memory.f32(rows),
    totals: memory.f64(3),
  };
}

/** Counts what an {@link OutputLoss} of some rows keeps. */
export function planOutputLoss(
  memory: CountedMemory,
  grid: Pick<Layer["grid"], "rows" | "cols">,
  gradients: boolean,
): LossPlan {
  roomForLoss(memory, grid, gradients);
  return { step: () => memory.within(() => memory.f32(0)), moments: () => {} };
}

/** {@link GradientObjective} of given second moments. */
export class OutputLoss implements GradientObjective {
  readonly unit: number;
  readonly #context: LinalgContext;
  readonly #layer: Layer;
  readonly #moments: MomentBlocks;
  /** E·H, f32 `[rows, cols]`. */
  readonly #gradient: MatrixF32;
  /** Its first moment; null if nobody asks for it. */
  readonly #average: Float32Array | null;
  readonly #weights: Float32Array;
  readonly #totals: Float64Array;
  #loss = 0;

  /** Takes memory of the context, which the caller gives back. `gradients`: for first moments, too. */
  constructor(context: LinalgContext, layer: Layer, moments: MomentBlocks, gradients: boolean) {
    const { memory } = context, { rows, cols } = layer.grid;
    this.#context = context;
    this.#layer = layer;
    this.#moments = moments;
    const room = roomForLoss(memory, layer.grid, gradients);
    this.#gradient = matrix(room.gradient, rows, cols);
    this.#average = room.average?.fill(0) ?? null;
    this.#weights = room.weights.fill(1);
    this.#totals = room.totals;
    this.unit = outputUnit(moments);
  }

  loss(): number {
    return Math.max(0, this.#loss);
  }

  measure(): number {
    const { kernels } = this.#context, { errors } = this.#layer;
    this.#eachBlock(0, errors.cols, (first, count) => {
      const h = this.#rowsOf(first, count);
      const part = block(this.#gradient, 0, first, errors.rows, count);
      kernels.gemmF32(part, block(errors, 0, first, errors.rows, count), h, "set");
    });
    this.#loss = innerProduct(errors.data, this.#gradient.data);
    return this.loss();
  }

  descend(first: number, cols: number, penalty: number): Moves {
    const { kernels, memory } = this.#context, { codes, errors, grid } = this.#layer;
    const { blockSize } = this.#moments;
    this.#totals.fill(0);
    withScratch(this.#context, () => {
      const none = memory.f32(0);
      this.#eachBlock(first, cols, (col, count) => {
        const left = col - col % blockSize;
        kernels.descendRows({
          ...this.#layer,
          codes: codes.subarray(col),
          codesRowStride: grid.cols,
          errors: block(errors, 0, col, grid.rows, count),
          gradient: block(this.#gradient, 0, left, grid.rows, blockSize),
          offset: col - left,
          panel: this.#rowsOf(col, count),
          weights: this.#weights,
          factors: matrix(none, grid.rows, 0),
          sums: matrix(none, count, 0),
          totals: this.#totals,
          scaleCols: grid.cols / grid.groupCols,
          groupRows: grid.groupRows,
          firstRow: 0,
          columnGroups: this.#layer.columnGroups.subarray(col, col + count),
          penalty,
        });
      });
    });
    const [count = 0, gain = 0, cost = 0] = this.#totals;
    this.#loss += gain;
    return { count, cost };
  }

  accumulate(decay: number): void {
    const average = this.#averages(), { data: gradient } = this.#gradient;
    for (let i = 0; i < average.length; i++) {
      average[i] = decay * average[i]! + (1 - decay) * gradient[i]!;
    }
  }

  energies(rows: Float64Array, cols: Float64Array): void {
    const { data, cols: width } = this.#gradient;
    cols.fill(0);
    for (let i = 0; i < rows.length; i++) {
      const row = data.subarray(i * width, (i + 1) * width);
      rows[i] = squaredNorm(row);
      for (let j = 0; j < width; j++) cols[j] = cols[j]! + row[j]! * row[j]!;
    }
  }

  moments(out: MatrixF32, first: number): void {
    const from = first * out.cols;
    out.data.set(this.#averages().subarray(from, from + out.rows * out.cols));
  }

  moved(row: number, col: number, change: number): void {
    const { blockSize, values } = this.#moments, { data, cols } = this.#gradient;
    let to = row * cols + col - col % blockSize;
    // The loss grows by d (2 g + d h); half of the gradient is kept.
    this.#loss += change *
      (2 * data[row * cols + col]! + change * values[col * blockSize + col % blockSize]!);
    for (let from = col * blockSize; from < (col + 1) * blockSize; from++, to++) {
      data[to] = data[to]! + change * values[from]!;
    }
  }

  commit(): void {}

  #averages(): Float32Array {
    if (this.#average === null) throw new TypeError("Cannot average gradients: no memory for it");
    return this.#average;
  }

  /** Rows `first ..` of the blocks. */
  #rowsOf(first: number, count: number): MatrixF32 {
    const { blockSize, values } = this.#moments;
    const from = first * blockSize;
    return matrix(values.subarray(from, from + count * blockSize), count, blockSize);
  }

  /** Calls `body` for the parts of some columns, none of which reaches over the end of a block. */
  #eachBlock(first: number, cols: number, body: (first: number, count: number) => void): void {
    const { blockSize } = this.#moments;
    for (let col = first; col < first + cols;) {
      const count = Math.min(blockSize - col % blockSize, first + cols - col);
      body(col, count);
      col += count;
    }
  }
}

function innerProduct(x: Float32Array, y: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}
