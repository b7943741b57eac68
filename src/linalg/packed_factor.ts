/**
 * A Cholesky factor in 16-bit integers, for `ldlq`: what rounded columns feed back into those to come is
 * then a product of integers, twice as fast as one in f32, and as reproducible.
 *
 * L̃ is cut into blocks of {@link LDLQ_BLOCK} columns, and what is below the diagonal block of each into
 * runs of {@link FEED_BACK_RUN} rows, which `packFactor` packs with a scale for every column. n² bytes and
 * some: an eighth of the factor in f64.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "./context.ts";
import type { LinalgKernels, ShortMatrix } from "./linalg_kernels.ts";
import { block, matrix, type MatrixF32, type MatrixF64 } from "./matrix.ts";
import { shareOf } from "./team.ts";

/** Columns that are rounded between two products. A multiple of 8, as the kernels need. */
export const LDLQ_BLOCK = 128;

/**
 * Terms of a product that share scales. The fewer, the more bits the integers have: a product is off by 1.4
 * times as much with twice as many. A part of LDLQ_BLOCK.
 */
export const FEED_BACK_RUN = 64;

/** A factor as it is multiplied with: what is below its diagonal blocks in integers, and those. */
export interface PackedFactor {
  /** Order of the matrix. */
  readonly size: number;
  readonly pairs: Int32Array;
  readonly scales: Float32Array;
  /** Places at which block columns begin in both. */
  readonly starts: readonly Start[];
  /** The diagonal of the factor itself, f64 `[n]`. */
  readonly diagonal: Float64Array;
  /** The diagonal blocks of L̃, f32 `[LDLQ_BLOCK, LDLQ_BLOCK]` each: see {@link panelOf}. */
  readonly panels: Float32Array;
}

/** Places in the pairs, and in runs of scales. */
interface Start {
  readonly pairs: number;
  readonly runs: number;
}

/** Rows below the diagonal block of block column `index` of a matrix of order `n`; below 0: none. */
function rowsBelow(n: number, index: number): number {
  return n - (index + 1) * LDLQ_BLOCK;
}

/** Places at which the block columns of a matrix of order `n` begin, and after them where they end. */
function startsOf(n: number): Start[] {
  const starts = [{ pairs: 0, runs: 0 }];
  for (let i = 0; i < Math.ceil(n / LDLQ_BLOCK); i++) {
    const below = Math.max(0, rowsBelow(n, i)), { pairs, runs } = starts[i]!;
    starts.push({
      pairs: pairs + Math.ceil(below / 2) * LDLQ_BLOCK,
      runs: runs + Math.ceil(below / FEED_BACK_RUN),
    });
  }
  return starts;
}

/** The integers of a factor of order `n`. */
function roomForFactor(memory: Pick<Allocator, "i32" | "f32" | "f64">, n: number) {
  const starts = startsOf(n), count = starts.length - 1, end = starts[count]!;
  return {
    starts,
    pairs: memory.i32(end.pairs),
    scales: memory.f32(end.runs * LDLQ_BLOCK),
    diagonal: memory.f64(n),
    panels: memory.f32(count * LDLQ_BLOCK ** 2),
  };
}

function roomForPanel(memory: Pick<Allocator, "f32" | "f64">) {
  return { panel: memory.f32(FEED_BACK_RUN * LDLQ_BLOCK), diagonal: memory.f64(LDLQ_BLOCK) };
}

/** Counts what {@link packFactor} leaves in the memory of the team, for a factor of order `n`. */
export function planPackedFactor(memory: CountedMemory, n: number): void {
  roomForFactor(memory, n);
}

/** Counts what each member takes in {@link packFactor}. */
export function planPacking(memory: CountedMemory): void {
  memory.within(() => roomForPanel(memory));
}

/** Takes room for `rows` rows of `n` columns, packed: a matrix for each run of columns. */
export function roomForErrors(
  memory: Pick<Allocator, "i32" | "f32">,
  rows: number,
  n: number,
): ShortMatrix[] {
  const lines = 4 * Math.ceil(rows / 4);
  return Array.from({ length: Math.ceil(n / FEED_BACK_RUN) }, () => ({
    pairs: memory.i32(lines * (FEED_BACK_RUN / 2)),
    scales: memory.f32(lines),
  }));
}

/**
 * Packs `l`, f64 `[n, n]`, the lower triangle holding the factor. By the whole team; ends in a barrier.
 *
 * @param memory where the result is: the same for all members, who take from it in the same order.
 */
export function packFactor(
  context: LinalgContext,
  l: MatrixF64,
  memory: Allocator,
): PackedFactor {
  const { kernels, team } = context;
  const n = l.rows, count = Math.ceil(n / LDLQ_BLOCK);
  const packed: PackedFactor = { size: n, ...roomForFactor(memory, n) };
  const blocks = shareOf(team, 0, count);
  for (let index = blocks.start; index < blocks.end; index++) packPanel(kernels, packed, l, index);
  withScratch(context, () => {
    const { panel, diagonal } = roomForPanel(context.memory);
    const own = shareOf(team, 0, packed.starts[count]!.runs);
    for (let index = 0, job = 0; index < count; index++) {
      for (let run = 0; run < Math.ceil(rowsBelow(n, index) / FEED_BACK_RUN); run++, job++) {
        if (job < own.start || job >= own.end) continue;
        const first = index * LDLQ_BLOCK, row = first + LDLQ_BLOCK + run * FEED_BACK_RUN;
        const rows = Math.min(FEED_BACK_RUN, n - row);
        for (let j = 0; j < LDLQ_BLOCK; j++) diagonal[j] = l.data[(first + j) * (l.rowStride + 1)]!;
        divideColumns(panel, block(l, row, first, rows, LDLQ_BLOCK), diagonal);
        kernels.packFactor(runOf(packed, index, run), matrix(panel, rows, LDLQ_BLOCK));
      }
    }
  });
  team.barrier();
  return packed;
}

/** Keeps diagonal block `index` of `l`. */
function packPanel(
  kernels: LinalgKernels,
  packed: PackedFactor,
  l: MatrixF64,
  index: number,
): void {
  const panel = panelOf(packed, index), { rows: width } = panel, first = index * LDLQ_BLOCK;
  const diagonal = packed.diagonal.subarray(first, first + width);
  for (let j = 0; j < width; j++) diagonal[j] = l.data[(first + j) * (l.rowStride + 1)]!;
  kernels.unitLowerPanel(panel, block(l, first, first, width, width), diagonal);
}

/** Returns diagonal block `index` of the unit lower factor. */
export function panelOf({ size, panels }: PackedFactor, index: number): MatrixF32 {
  const width = Math.min(LDLQ_BLOCK, size - index * LDLQ_BLOCK);
  return matrix(panels.subarray(index * LDLQ_BLOCK ** 2), width, width, LDLQ_BLOCK);
}

/** out[i, j] = l[i, j] / diagonal[j] in f64, rounded to f32. */
function divideColumns(out: Float32Array, l: MatrixF64, diagonal: Float64Array): void {
  for (let i = 0; i < l.rows; i++) {
    const from = i * l.rowStride, to = i * l.cols;
    for (let j = 0; j < l.cols; j++) out[to + j] = l.data[from + j]! / diagonal[j]!;
  }
}

/** Returns rows `(index + 1) * LDLQ_BLOCK + run * FEED_BACK_RUN ..` of block column `index`. */
export function runOf(
  { starts, pairs, scales }: PackedFactor,
  index: number,
  run: number,
): ShortMatrix {
  const start = starts[index]!;
  return {
    pairs: pairs.subarray(start.pairs + run * FEED_BACK_RUN * LDLQ_BLOCK / 2),
    scales: scales.subarray((start.runs + run) * LDLQ_BLOCK),
  };
}
