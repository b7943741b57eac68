/**
 * A Cholesky factor in integers, for `ldlq`: what rounded columns feed back into those to come is then a product of
 * integers, several times as fast as one in f32, and as reproducible.
 *
 * L̃ is cut into blocks of {@link LDLQ_BLOCK} columns, and what is below the diagonal block of each into runs of rows,
 * packed with a scale for every column: in bytes (runs of BYTE_RUN) or in 16 bits (runs of {@link FEED_BACK_RUN});
 * {@link bitsFor} says which. n² bytes and some, an eighth of the factor in f64; bytes leave half of that unused.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "./context.ts";
import { BYTE_RUN, type LinalgKernels, type ShortMatrix } from "./linalg_kernels.ts";
import { block, matrix, type MatrixF32, type MatrixF64 } from "./matrix.ts";
import { shareOf } from "./team.ts";

/** Columns that are rounded between two products. A multiple of 8, as the kernels need. */
export const LDLQ_BLOCK = 128;

/**
 * Terms of a product in 16 bits that share scales. The fewer, the more bits the integers have: a product is off by
 * 1.4 times as much with twice as many. A part of LDLQ_BLOCK.
 */
export const FEED_BACK_RUN = 64;

/** The width of integers: with 8, what is fed back is off by a hundredth, with 16 by 2^-14. */
export type FeedBackBits = 8 | 16;

/** How many times the error of a column, squared, what is fed back into it may be if bytes do. */
const BYTES_MOST = 12;

/**
 * Returns the width of integers for a factor whose matrix has this trace, damping included, and this sum of squared
 * diagonal elements of L.
 *
 * The trace is the sum of all squared elements of L, so `trace / squares - 1` is the squared norm of what is fed back
 * into a column, in units of its own error and weighted as output errors are. With bytes it is off by 0.01, which adds
 * 1e-4 of that ratio to the squared output error: 1e-3 at most, half a thousandth of the error itself. Elements of the
 * diagonal are not below the root of the damping, so the ratio is at most 1 / fraction, 10 for the default one.
 */
export function bitsFor(trace: number, squares: number): FeedBackBits {
  return trace <= (BYTES_MOST + 1) * squares ? 8 : 16;
}

/** A factor as it is multiplied with: what is below its diagonal blocks in integers, and those. */
export interface PackedFactor {
  /** Order of the matrix. */
  readonly size: number;
  readonly bits: FeedBackBits;
  readonly numbers: Int32Array;
  readonly scales: Float32Array;
  /** Places at which block columns begin in both. */
  readonly starts: readonly Start[];
  /** The diagonal of the factor itself, f64 `[n]`. */
  readonly diagonal: Float64Array;
  /** The diagonal blocks of L̃, f32 `[LDLQ_BLOCK, LDLQ_BLOCK]` each: see {@link panelOf}. */
  readonly panels: Float32Array;
}

/** Places in the numbers, and in runs of scales. */
interface Start {
  readonly numbers: number;
  readonly runs: number;
}

/** Rows below the diagonal block of block column `index` of a matrix of order `n`; below 0: none. */
function rowsBelow(n: number, index: number): number {
  return n - (index + 1) * LDLQ_BLOCK;
}

/** Rows that share scales. */
function runRows(bits: FeedBackBits): number {
  return bits === 8 ? BYTE_RUN : FEED_BACK_RUN;
}

/** Words of one column of `rows` rows in `runs` runs. */
function wordsOf(bits: FeedBackBits, rows: number, runs: number): number {
  return bits === 8 ? Math.ceil(rows / 4) + runs : Math.ceil(rows / 2);
}

/** Places at which the block columns of a matrix of order `n` begin, and after them where they end. */
function startsOf(n: number, bits: FeedBackBits): Start[] {
  const starts = [{ numbers: 0, runs: 0 }];
  for (let i = 0; i < Math.ceil(n / LDLQ_BLOCK); i++) {
    const below = Math.max(0, rowsBelow(n, i)), { numbers, runs } = starts[i]!;
    const own = Math.ceil(below / runRows(bits));
    starts.push({
      numbers: numbers + wordsOf(bits, below, own) * LDLQ_BLOCK,
      runs: runs + own,
    });
  }
  return starts;
}

/** Room for the integers of a factor of order `n`, of either width. */
function roomForFactor(memory: Pick<Allocator, "i32" | "f32" | "f64">, n: number) {
  const count = Math.ceil(n / LDLQ_BLOCK);
  const ends = ([8, 16] as const).map((bits) => startsOf(n, bits)[count]!);
  return {
    numbers: memory.i32(Math.max(...ends.map(({ numbers }) => numbers))),
    scales: memory.f32(Math.max(...ends.map(({ runs }) => runs)) * LDLQ_BLOCK),
    diagonal: memory.f64(n),
    panels: memory.f32(count * LDLQ_BLOCK ** 2),
  };
}

function roomForPanel(memory: Pick<Allocator, "f32" | "f64">) {
  return { panel: memory.f32(BYTE_RUN * LDLQ_BLOCK), diagonal: memory.f64(LDLQ_BLOCK) };
}

/** Counts what {@link packFactor} leaves in the memory of the team, for a factor of order `n`. */
export function planPackedFactor(memory: CountedMemory, n: number): void {
  roomForFactor(memory, n);
}

/** Counts what each member takes in {@link packFactor}. */
export function planPacking(memory: CountedMemory): void {
  memory.within(() => roomForPanel(memory));
}

/** Errors of some rows, packed: their runs one behind the other, of either width. */
export interface PackedErrors {
  /** Rows, up to a multiple of 4. */
  readonly lines: number;
  readonly numbers: Int32Array;
  readonly scales: Float32Array;
}

/** Words of a line in a run: as many of 64 terms in 16 bits as of 128 in bytes. */
const LINE_WORDS = FEED_BACK_RUN / 2;

/** Takes room for `rows` rows of `n` columns. */
export function roomForErrors(
  memory: Pick<Allocator, "i32" | "f32">,
  rows: number,
  n: number,
): PackedErrors {
  const lines = 4 * Math.ceil(rows / 4), runs = Math.ceil(n / FEED_BACK_RUN);
  return {
    lines,
    numbers: memory.i32(runs * lines * LINE_WORDS),
    scales: memory.f32(runs * lines),
  };
}

/** Returns run `run` of 64 terms in 16 bits. */
export function shortRunOf({ lines, numbers, scales }: PackedErrors, run: number): ShortMatrix {
  return {
    pairs: numbers.subarray(run * lines * LINE_WORDS, (run + 1) * lines * LINE_WORDS),
    scales: scales.subarray(run * lines, (run + 1) * lines),
  };
}

/** Packs `e`, the columns from `first` on, a multiple of LDLQ_BLOCK and at most so many. */
export function packColumns(
  kernels: LinalgKernels,
  { bits }: Pick<PackedFactor, "bits">,
  errors: PackedErrors,
  { first, e }: { readonly first: number; readonly e: MatrixF32 },
): void {
  const step = runRows(bits);
  for (let at = 0; at < e.cols; at += step) {
    const own = block(e, 0, at, e.rows, Math.min(step, e.cols - at));
    const { numbers, scales } = runsFrom(errors, (first + at) / step);
    if (bits === 8) kernels.packErrorsI8({ quads: numbers, scales }, own);
    else kernels.packErrors({ pairs: numbers, scales }, own);
  }
}

/** The runs of `errors` from `run` on. */
function runsFrom({ lines, numbers, scales }: PackedErrors, run: number) {
  return {
    numbers: numbers.subarray(run * lines * LINE_WORDS),
    scales: scales.subarray(run * lines),
  };
}

/**
 * c = what the columns of `errors` to the right of block column `index` feed back into it, f32 `[lines, LDLQ_BLOCK]`;
 * 0 if there are none.
 */
export function feedBackInto(
  kernels: LinalgKernels,
  packed: PackedFactor,
  errors: PackedErrors,
  { c, index }: { readonly c: MatrixF32; readonly index: number },
): void {
  const { size, bits } = packed, next = (index + 1) * LDLQ_BLOCK, terms = rowsBelow(size, index);
  if (terms <= 0) {
    c.data.fill(0);
  } else if (bits === 8) {
    const e = runsFrom(errors, next / BYTE_RUN), l = runOf(packed, index, 0);
    const [left, right] = [e, l].map(({ numbers, scales }) => ({ quads: numbers, scales }));
    kernels.feedBackI8(c, left!, right!, terms, false);
  } else {
    for (let run = 0; run * FEED_BACK_RUN < terms; run++) {
      const e = runsFrom(errors, next / FEED_BACK_RUN + run), l = runOf(packed, index, run);
      const [left, right] = [e, l].map(({ numbers, scales }) => ({ pairs: numbers, scales }));
      const own = Math.min(FEED_BACK_RUN, terms - run * FEED_BACK_RUN);
      kernels.feedBack(c, left!, right!, own, run > 0);
    }
  }
}

/**
 * Packs `l`, f64 `[n, n]`, the lower triangle holding the factor. By the whole team; ends in a barrier.
 *
 * @param memory where the result is: the same for all members, who take from it in the same order.
 * @param bits width of the integers.
 */
export function packFactor(
  context: LinalgContext,
  l: MatrixF64,
  memory: Allocator,
  bits: FeedBackBits,
): PackedFactor {
  const { kernels, team } = context;
  const n = l.rows, count = Math.ceil(n / LDLQ_BLOCK), starts = startsOf(n, bits);
  const packed: PackedFactor = { size: n, bits, starts, ...roomForFactor(memory, n) };
  const blocks = shareOf(team, 0, count), step = runRows(bits);
  for (let index = blocks.start; index < blocks.end; index++) packPanel(kernels, packed, l, index);
  withScratch(context, () => {
    const { panel, diagonal } = roomForPanel(context.memory);
    const own = shareOf(team, 0, starts[count]!.runs);
    for (let index = 0, job = 0; index < count; index++) {
      for (let run = 0; run < Math.ceil(rowsBelow(n, index) / step); run++, job++) {
        if (job < own.start || job >= own.end) continue;
        const first = index * LDLQ_BLOCK, row = first + LDLQ_BLOCK + run * step;
        const rows = Math.min(step, n - row);
        for (let j = 0; j < LDLQ_BLOCK; j++) diagonal[j] = l.data[(first + j) * (l.rowStride + 1)]!;
        const part = matrix(panel, rows, LDLQ_BLOCK);
        kernels.divideColumns(part, block(l, row, first, rows, LDLQ_BLOCK), diagonal);
        const { numbers, scales } = runOf(packed, index, run);
        if (bits === 8) kernels.packFactorI8({ quads: numbers, scales }, part);
        else kernels.packFactor({ pairs: numbers, scales }, part);
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

/** Run `run` of block column `index`, and those behind it. */
function runOf({ bits, starts, numbers, scales }: PackedFactor, index: number, run: number) {
  const start = starts[index]!, words = wordsOf(bits, runRows(bits), 1);
  return {
    numbers: numbers.subarray(start.numbers + run * words * LDLQ_BLOCK),
    scales: scales.subarray((start.runs + run) * LDLQ_BLOCK),
  };
}
