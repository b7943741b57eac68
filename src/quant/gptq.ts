/**
 * GPTQ: rounds a layer to a given grid with error compensation, on the Hessian of its inputs. The grid is
 * the stored one, in the stored space: one rounding, never two.
 *
 * Two steps. {@link prepareGptq} turns the Hessian into a factor, by the whole team; {@link gptqRows}
 * rounds rows with it, any rows by anybody.
 *
 * Memory, with K columns and blocks of B channels (B = K for a full Hessian): the factor replaces the
 * Hessian, 8 K B bytes, shared; every member needs about 8 K bytes more while it factors, and what
 * `linalg/ldlq.ts` says for the rows it rounds, plus rows * 5 K if columns are reordered.
 */

import { bytesTaken, type CountedMemory } from "../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "../linalg/context.ts";
import { dampedCholesky, dampingsFrom, planDampedCholesky } from "../linalg/damping.ts";
import { diagonalOf, type Hessian, hessianBlock } from "../linalg/hessian.ts";
import {
  ldlq,
  type LdlqRows,
  planLdlq,
  planRowsToNearest,
  roundRowsToNearest,
  wholeFactor,
} from "../linalg/ldlq.ts";
import type { LinalgKernels } from "../linalg/linalg_kernels.ts";
import { block, matrix, type MatrixF32 } from "../linalg/matrix.ts";
import {
  bitsFor,
  LDLQ_BLOCK,
  type PackedFactor,
  packFactor,
  planPackedFactor,
  planPacking,
} from "../linalg/packed_factor.ts";
import { actOrderOfUnits } from "../linalg/permute.ts";
import { shareOf, SOLO } from "../linalg/team.ts";
import {
  countRows,
  type GptqRows,
  gridInOrder,
  type OrderedSizes,
  planOrder,
  roomForOrder,
  roundInOrder,
} from "./rows_in_order.ts";

/** Report on a Hessian. */
export interface GptqReport {
  /** Fraction of the mean diagonal that was added to the diagonal; null if nothing was factored. */
  readonly damping: number | null;
  /** Whether that is more than was asked for, because the Hessian is not positive semidefinite. */
  readonly dampingRaised: boolean;
  /** Channels without energy in the data: they count as much as the mean of the others. */
  readonly deadChannels: number;
  /** Why the layer is rounded to nearest instead; null if it is not. */
  readonly fallback: string | null;
}

/** A factored Hessian, ready to round any rows of its layer. Its arrays may be shared by workers. */
export interface GptqFactor {
  readonly size: number;
  readonly blockSize: number;
  /**
   * Lower triangles hold L, block by block, what is above them the Hessian. Not used if `report.fallback`
   * is set.
   */
  readonly values: Float64Array;
  /** Column k of the factor is column `order[k]` of the layer. Null: columns stay in place. */
  readonly order: Int32Array | null;
  /** The blocks in 16-bit integers, by which errors are fed back; null: that is done in f32. */
  readonly packed: readonly PackedFactor[] | null;
  /** The diagonal of the Hessian without damping, f64 `[size]`, in the order of the factor. */
  readonly diagonal: Float64Array;
  readonly report: GptqReport;
}

export interface GptqOptions {
  /** Round the most important columns first: all others can then make up for their errors. */
  readonly actOrder: boolean;
  /** Columns that stay side by side where they are reordered, divides the blocks. Default: 1. */
  readonly unitCols?: number;
  /** How important each column is, f64 `[K]`. Null: by the energy of its channel. */
  readonly importance?: Float64Array | null;
  /** Fraction of the mean diagonal to begin with, 0 or more. */
  readonly damping: number;
  /**
   * Place of the factor in 16-bit integers (`linalg/packed_factor.ts`), by which errors are then fed
   * back; shared by the team, whose members take from it in the same order. Null: they are fed back in
   * f32, as they are if there is no room for it.
   */
  readonly turbo?: Allocator | null;
}

/**
 * Factors `hessian` in place: its values are used up. The same result for every size of team.
 *
 * Never throws for what is in a Hessian: if it cannot be factored, the report says why, and rows will
 * be rounded to nearest.
 *
 * @param hessian in the space of the codes (rotated if they are), shared by the team.
 */
export function prepareGptq(
  context: LinalgContext,
  hessian: Hessian,
  options: GptqOptions,
): GptqFactor {
  const { size, blockSize, values } = hessian;
  const diagonal = diagonalOf(hessian);
  const live = diagonal.filter((energy) => energy !== 0);
  const deadChannels = hessian.deadChannels ?? size - live.length;
  const fallback = (reason: string): GptqFactor => {
    const report = { damping: null, dampingRaised: false, deadChannels, fallback: reason };
    return { size, blockSize, values, order: null, packed: null, diagonal, report };
  };
  if (live.some((energy) => !(energy > 0 && energy < Infinity))) {
    return fallback("the Hessian is not positive semidefinite, or too large for its numbers");
  }
  if (live.length === 0) return fallback("the Hessian is zero");
  if (blockSize === 1) {
    return fallback("the Hessian is diagonal, so there is nothing to compensate");
  }
  const mean = live.reduce((sum, energy) => sum + energy, 0) / live.length;
  const order = options.actOrder
    ? orderWithinBlocks(options.importance ?? diagonal, blockSize, options.unitCols ?? 1)
    : null;
  if (order !== null) permuteBlocks(context, hessian, order);
  const dampings = dampingsFrom(options.damping);
  const attempt = factorBlocks(context, hessian, dampings, mean);
  const damping = dampings[attempt];
  if (damping === undefined) {
    return fallback(`the Hessian is not positive definite, not even damped by ${dampings.at(-1)}`);
  }
  const report = { damping, dampingRaised: attempt > 0, deadChannels, fallback: null };
  const energies = diagonal.map((_, k) => diagonal[order === null ? k : order[k]!]! || mean);
  const trace = energies.reduce((sum, energy) => sum + energy + damping * mean, 0);
  const packed = packBlocks(context, hessian, trace, options);
  return { size, blockSize, values, order, packed, diagonal: energies, report };
}

/** Bytes of a factor and its integers that leave room for bands of rows in a WebAssembly memory of 4 GiB. */
const PACKED_TOTAL_MAX = 3.6e9;

/**
 * Whether a factor of `size` channels in blocks of `blockSize` is packed into integers: not in blocks so small
 * that errors are hardly fed back so, nor in layers so large (more than about 20,000 channels) that there
 * would be no room.
 */
function isPackable({ size, blockSize }: Pick<Hessian, "size" | "blockSize">): boolean {
  if (blockSize <= LDLQ_BLOCK) return false;
  const bytes = (size / blockSize) * bytesTaken((memory) => planPackedFactor(memory, blockSize));
  return 8 * size * blockSize + bytes <= PACKED_TOTAL_MAX;
}

/** The sizes that decide how much memory a layer takes. */
export interface GptqSizes extends OrderedSizes, Pick<Hessian, "blockSize"> {
  readonly actOrder: boolean;
  /** Whether errors are fed back in integers, if that is possible. */
  readonly turbo: boolean;
}

/** Whether errors of such a layer are fed back in integers. */
export function usesIntegers(sizes: GptqSizes): boolean {
  return sizes.turbo && isPackable(sizes);
}

/** Counts what each member takes in {@link prepareGptq}, and what it leaves in `shared`. */
export function planGptq(memory: CountedMemory, shared: CountedMemory, sizes: GptqSizes): void {
  const { size, blockSize, actOrder } = sizes;
  if (blockSize === 1) return;
  if (actOrder) memory.within(() => roomForOrdering(memory, blockSize));
  planDampedCholesky(memory, blockSize);
  if (!usesIntegers(sizes)) return;
  planPacking(memory);
  for (let index = 0; index < size / blockSize; index++) planPackedFactor(shared, blockSize);
}

/** Counts what {@link gptqRows} takes for `rows` rows, whether they are compensated or fall back. */
export function planGptqRows(memory: CountedMemory, rows: number, sizes: GptqSizes): void {
  const { size, blockSize, actOrder } = sizes, most = Math.min(rows, CHUNK_ROWS);
  memory.within(() => {
    planOrder(memory, sizes);
    planRowsToNearest(memory, rows);
    if (blockSize === 1) return;
    if (actOrder) roomForOrder(memory, most, size);
    const isPacked = usesIntegers(sizes);
    planLdlq(memory, { n: blockSize, rows: actOrder ? most : rows, isPacked });
  });
}

/**
 * The factors of all blocks in integers; null if that is not asked for, or no use.
 *
 * @param trace of the Hessian, damping included.
 */
function packBlocks(
  context: LinalgContext,
  hessian: Hessian,
  trace: number,
  { turbo = null }: GptqOptions,
): PackedFactor[] | null {
  const { size, blockSize } = hessian;
  if (turbo === null || !isPackable(hessian)) return null;
  const squares = diagonalOf(hessian).reduce((sum, pivot) => sum + pivot * pivot, 0);
  const bits = bitsFor(trace, squares);
  return Array.from(
    { length: size / blockSize },
    (_, index) => packFactor(context, hessianBlock(hessian, index), turbo, bits),
  );
}

/** Which column of the layer is where: least energy first, blocks staying where they are. */
function orderWithinBlocks(
  diagonal: Float64Array,
  blockSize: number,
  unitCols: number,
): Int32Array {
  const order = new Int32Array(diagonal.length);
  for (let first = 0; first < order.length; first += blockSize) {
    const own = diagonal.subarray(first, first + blockSize);
    const local = actOrderOfUnits(own, blockSize % unitCols === 0 ? unitCols : 1);
    for (let k = 0; k < blockSize; k++) order[first + k] = first + local[k]!;
  }
  return order;
}

function roomForOrdering(memory: Pick<Allocator, "f64" | "i32">, blockSize: number) {
  return { spareRow: memory.f64(blockSize), places: memory.i32(blockSize) };
}

function permuteBlocks(context: LinalgContext, hessian: Hessian, order: Int32Array): void {
  const { size, blockSize } = hessian;
  context.team.barrier(); // everyone has read the diagonal before anyone moves it
  withScratch(context, () => {
    const { spareRow, places } = roomForOrdering(context.memory, blockSize);
    const blocks = shareOf(context.team, 0, size / blockSize);
    for (let index = blocks.start; index < blocks.end; index++) {
      const first = index * blockSize;
      for (let k = 0; k < blockSize; k++) places[k] = order[first + k]! - first;
      context.kernels.permuteSymmetric(hessianBlock(hessian, index), places, spareRow);
    }
  });
  context.team.barrier();
}

/** Factors one large block by the whole team, small ones each by one member. Returns the last attempt. */
function factorBlocks(
  context: LinalgContext,
  hessian: Hessian,
  dampings: readonly number[],
  mean: number,
): number {
  const { size, blockSize } = hessian;
  if (blockSize === size) {
    return dampedCholesky(context, hessianBlock(hessian, 0), dampings, mean);
  }
  context.team.barrier(); // everyone has read the diagonal before anyone changes it
  const alone: LinalgContext = { ...context, team: SOLO };
  const blocks = shareOf(context.team, 0, size / blockSize);
  let attempt = 0;
  for (let index = blocks.start; index < blocks.end; index++) {
    const tried = dampedCholesky(alone, hessianBlock(hessian, index), dampings, mean);
    attempt = Math.max(attempt, tried);
  }
  return context.team.max(attempt);
}

/**
 * Rounds some rows of a layer. The same bits however rows are split over calls and workers.
 *
 * @throws RangeError if sizes do not fit together, or the memory is exhausted.
 */
export function gptqRows(context: LinalgContext, factor: GptqFactor, rows: GptqRows): void {
  const { size, order } = factor;
  if (order !== null) {
    const round = (chunk: LdlqRows) => roundBlocks(context, factor, chunk);
    roundInOrder(context, rows, { size, order, chunkRows: CHUNK_ROWS }, round);
    return;
  }
  const count = countRows(rows, size);
  withScratch(context, () => {
    roundBlocks(context, factor, {
      ...gridInOrder(context.memory, rows, { size, order }),
      firstRow: rows.firstRow,
      weights: matrix(rows.weights, count, size),
      codes: rows.codes,
    });
  });
}

/** Rows that are reordered at a time: many enough that preparing the factor's columns costs little. */
const CHUNK_ROWS = 512;

/** Every block of channels on its own: no error crosses from one to another. */
function roundBlocks(context: LinalgContext, factor: GptqFactor, layer: LdlqRows): void {
  const { size, blockSize, values, packed, report } = factor;
  if (report.fallback !== null) {
    roundRowsToNearest(context, layer);
    return;
  }
  for (let first = 0; first < size; first += blockSize) {
    const index = first / blockSize, lower = hessianBlock({ blockSize, values }, index);
    const part: LdlqRows = {
      ...layer,
      weights: block(layer.weights, 0, first, layer.weights.rows, blockSize),
      codes: layer.codes.subarray(first),
      columnGroups: layer.columnGroups.subarray(first, first + blockSize),
      ...(layer.levels === undefined ? {} : {
        levels: {
          ...layer.levels,
          columnSets: layer.levels.columnSets.subarray(first, first + blockSize),
        },
      }),
    };
    ldlq(context, wholeFactor(lower), part, packed?.[index] ?? null);
  }
}

/**
 * Returns columns `first .. first + width` of the unit lower factor of `factor`, in f32, from row `first` to
 * the end of their block of channels: what `ldlq` works with, and what a GPU is given.
 *
 * @param into where it is put: f32 with room for all of it, and f64 for `width`.
 */
export function unitLowerColumns(
  kernels: Pick<LinalgKernels, "unitLowerPanel">,
  { values, blockSize }: Pick<GptqFactor, "values" | "blockSize">,
  { first, width, into }: {
    readonly first: number;
    readonly width: number;
    readonly into: { readonly panel: Float32Array; readonly diagonal: Float64Array };
  },
): MatrixF32 {
  const index = Math.floor(first / blockSize), top = first - index * blockSize;
  const lower = hessianBlock({ blockSize, values }, index);
  const column = block(lower, top, top, blockSize - top, width);
  const diagonal = into.diagonal.subarray(0, width);
  for (let j = 0; j < width; j++) diagonal[j] = column.data[j * (column.rowStride + 1)]!;
  const panel = matrix(into.panel, blockSize - top, width);
  kernels.unitLowerPanel(panel, column, diagonal);
  return panel;
}
