/**
 * The loss without data: ‖Uᵀ E V‖, the errors E as seen by the layer's leading singular directions U and V.
 *
 * Kept is G = UᵀEV, small. Half the gradient of ‖G‖² is U G Vᵀ; a move by d at (i, j) changes G by
 * d * u_i v_jᵀ. Columns are done in tiles, rows in blocks: within a row every move sees all before it, within
 * a tile every block of rows sees those above. Rows of one block do not see one another; they are few
 * enough to matter little, and the loss is taken from G afterwards, not from what moves promised.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "../../linalg/context.ts";
import { block, matrix, type MatrixF32, transpose } from "../../linalg/matrix.ts";
import type { Subspaces } from "../../linalg/subspace.ts";
import {
  type GradientObjective,
  type Layer,
  type LossPlan,
  type Moves,
  squaredNorm,
} from "./layer.ts";

/**
 * Initial weight of squared errors of the weights, relative to the mean loss of a unit error. The
 * adaptive schedule finds the best number within a round; this is near it.
 */
const PENALTY = 32;

/** Columns of a tile, rows of a block. */
const TILE_COLS = 64, BLOCK_ROWS = 256;

/** Memory that a loss of `ku` directions on the left and `kv` on the right keeps. */
function roomForLoss(
  memory: Pick<Allocator, "f32" | "f64">,
  { rows, cols }: Pick<Layer["grid"], "rows" | "cols">,
  [ku, kv]: readonly [number, number],
) {
  return {
    left: memory.f32(rows * ku),
    weights: memory.f32(rows),
    g: memory.f32(kv * ku),
    moment: memory.f32(kv * ku),
    sums: memory.f32(cols * ku),
    totals: memory.f64(3),
  };
}

function roomForTile(memory: Pick<Allocator, "f32">, cols: number, ku: number) {
  return {
    panel: memory.f32(cols * cols),
    seen: memory.f32(cols * ku),
    all: memory.f32(cols * ku),
    few: memory.f32(cols * ku),
    gradient: memory.f32(BLOCK_ROWS * cols),
  };
}

/** Counts what a {@link ProjectedLoss} of `count` directions keeps. */
export function planProjectedLoss(
  memory: CountedMemory,
  grid: Pick<Layer["grid"], "rows" | "cols">,
  count: number,
): LossPlan {
  const k = Math.min(count, grid.rows, grid.cols);
  roomForLoss(memory, grid, [k, k]);
  return {
    step: () => {
      memory.within(() => roomForTile(memory, Math.min(TILE_COLS, grid.cols), k));
      memory.within(() => memory.f32(BLOCK_ROWS * k)); // of `measure` and `energies`
    },
    moments: (rows) => memory.within(() => memory.f32(rows * k)),
  };
}

/** {@link GradientObjective} of the leading singular directions. */
export class ProjectedLoss implements GradientObjective {
  readonly unit: number;
  readonly #context: LinalgContext;
  readonly #layer: Layer;
  /** U, f32 `[rows, ku]`. */
  readonly #left: MatrixF32;
  /** Vᵀ, f32 `[kv, cols]`. */
  readonly #right: MatrixF32;
  /** |u_i|² of every row. */
  readonly #weights: Float32Array;
  /** Gᵀ, f32 `[kv, ku]`, and its first moment. */
  readonly #g: MatrixF32;
  readonly #moment: MatrixF32;
  /** movesᵀ·U, f32 `[cols, ku]`, of steps that report single moves. */
  readonly #sums: MatrixF32;
  readonly #totals: Float64Array;

  /** Takes memory of the context, which the caller gives back. */
  constructor(context: LinalgContext, layer: Layer, { left, right }: Subspaces) {
    const { memory } = context, { rows, cols } = layer.grid;
    this.#context = context;
    this.#layer = layer;
    this.#right = right;
    const room = roomForLoss(memory, layer.grid, [left.rows, right.rows]);
    this.#left = matrix(room.left, rows, left.rows);
    this.#weights = room.weights;
    this.#g = matrix(room.g, right.rows, left.rows);
    this.#moment = matrix(room.moment.fill(0), right.rows, left.rows);
    this.#sums = matrix(room.sums.fill(0), cols, left.rows);
    this.#totals = room.totals;
    this.unit = PENALTY * left.rows * right.rows / (rows * cols);
    transposeInto(this.#left, left);
    for (let i = 0; i < rows; i++) {
      const at = i * left.rows;
      this.#weights[i] = squaredNorm(this.#left.data.subarray(at, at + left.rows));
    }
  }

  loss(): number {
    return squaredNorm(this.#g.data);
  }

  measure(): number {
    const { kernels, memory } = this.#context, { errors } = this.#layer;
    withScratch(this.#context, () => {
      const seen = memory.f32(BLOCK_ROWS * this.#right.rows);
      this.#g.data.fill(0);
      for (let row = 0; row < errors.rows; row += BLOCK_ROWS) {
        const rows = Math.min(BLOCK_ROWS, errors.rows - row);
        const part = matrix(seen, rows, this.#right.rows);
        const band = block(errors, row, 0, rows, errors.cols);
        kernels.gemmF32(part, band, transpose(this.#right), "set");
        kernels.gemmF32(this.#g, transpose(part), this.#rows(row, rows), "add");
      }
    });
    return this.loss();
  }

  descend(first: number, cols: number, penalty: number): Moves {
    this.#totals.fill(0);
    for (let col = first; col < first + cols; col += TILE_COLS) {
      this.#descendTile(col, Math.min(TILE_COLS, first + cols - col), penalty);
    }
    return { count: this.#totals[0]!, cost: this.#totals[2]! };
  }

  #descendTile(col: number, cols: number, penalty: number): void {
    const { kernels, memory } = this.#context, { codes, errors, grid } = this.#layer;
    const ku = this.#left.cols, v = block(this.#right, 0, col, this.#right.rows, cols);
    withScratch(this.#context, () => {
      const room = roomForTile(memory, cols, ku), { gradient } = room;
      const panel = matrix(room.panel, cols, cols), seen = matrix(room.seen, cols, ku);
      const all = matrix(room.all.fill(0), cols, ku), few = matrix(room.few, cols, ku);
      kernels.gemmF32(panel, transpose(v), v, "set");
      kernels.gemmF32(seen, transpose(v), this.#g, "set");
      let known = 0;
      for (let row = 0; row < grid.rows; row += BLOCK_ROWS) {
        const rows = Math.min(BLOCK_ROWS, grid.rows - row), left = this.#rows(row, rows);
        const slope = matrix(gradient, rows, cols);
        kernels.gemmF32(slope, left, transpose(seen), "set");
        few.data.fill(0);
        kernels.descendRows({
          ...this.#layer,
          codes: codes.subarray(row * grid.cols + col),
          codesRowStride: grid.cols,
          errors: block(errors, row, col, rows, cols),
          gradient: slope,
          offset: 0,
          panel,
          weights: this.#weights.subarray(row, row + rows),
          factors: left,
          sums: few,
          totals: this.#totals,
          scaleCols: grid.cols / grid.groupCols,
          groupRows: grid.groupRows,
          firstRow: row,
          columnGroups: this.#layer.columnGroups.subarray(col, col + cols),
          penalty,
        });
        if (this.#totals[0] === known) continue;
        known = this.#totals[0]!;
        kernels.gemmF32(seen, panel, few, "add");
        for (let i = 0; i < few.data.length; i++) all.data[i] = all.data[i]! + few.data[i]!;
      }
      kernels.gemmF32(this.#g, v, all, "add");
    });
  }

  accumulate(decay: number): void {
    const { data: moment } = this.#moment, { data: g } = this.#g;
    for (let i = 0; i < moment.length; i++) moment[i] = decay * moment[i]! + (1 - decay) * g[i]!;
  }

  energies(rows: Float64Array, cols: Float64Array): void {
    const { kernels, memory } = this.#context, [kv, ku] = [this.#g.rows, this.#g.cols];
    withScratch(this.#context, () => {
      const part = memory.f32(BLOCK_ROWS * Math.max(kv, ku));
      const norms = (out: Float64Array, factors: MatrixF32, g: MatrixF32) => {
        for (let first = 0; first < out.length; first += BLOCK_ROWS) {
          const count = Math.min(BLOCK_ROWS, out.length - first);
          const seen = matrix(part, count, g.cols);
          kernels.gemmF32(seen, block(factors, first, 0, count, factors.cols), g, "set");
          for (let i = 0; i < count; i++) {
            out[first + i] = squaredNorm(part.subarray(i * g.cols, (i + 1) * g.cols));
          }
        }
      };
      norms(rows, this.#left, transpose(this.#g));
      norms(cols, transpose(this.#right), this.#g);
    });
  }

  moments(out: MatrixF32, first: number): void {
    const { kernels, memory } = this.#context, kv = this.#g.rows;
    withScratch(this.#context, () => {
      const mixed = matrix(memory.f32(out.rows * kv), out.rows, kv);
      kernels.gemmF32(mixed, this.#rows(first, out.rows), transpose(this.#moment), "set");
      kernels.gemmF32(out, mixed, this.#right, "set");
    });
  }

  moved(row: number, col: number, change: number): void {
    const ku = this.#left.cols, { data: sums } = this.#sums, { data: left } = this.#left;
    for (let k = 0, to = col * ku, from = row * ku; k < ku; k++, to++, from++) {
      sums[to] = sums[to]! + change * left[from]!;
    }
  }

  commit(): void {
    this.#context.kernels.gemmF32(this.#g, this.#right, this.#sums, "add");
    this.#sums.data.fill(0);
  }

  #rows(first: number, count: number): MatrixF32 {
    return block(this.#left, first, 0, count, this.#left.cols);
  }
}

/** out = mᵀ, in tiles that stay in the cache. */
function transposeInto(out: MatrixF32, m: MatrixF32): void {
  const TILE = 32;
  for (let top = 0; top < out.rows; top += TILE) {
    for (let left = 0; left < out.cols; left += TILE) {
      for (let i = top; i < Math.min(top + TILE, out.rows); i++) {
        for (let j = left; j < Math.min(left + TILE, out.cols); j++) {
          out.data[i * out.rowStride + j] = m.data[j * m.rowStride + i]!;
        }
      }
    }
  }
}
