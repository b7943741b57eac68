/** Work on matrices that lie on the device, recorded into a batch. */

import type { BlockSearch, GemmMode, LdlqBlock } from "../../linalg/linalg_kernels.ts";
import type { Matrix } from "../../linalg/matrix.ts";
import { LEVEL_TABLE } from "../backend.ts";
import type { Batch, Slot } from "./batch.ts";
import * as shaders from "./matrix_shaders.ts";
import type { Storage } from "./storage.ts";

/** A matrix on the device. Sizes, strides and `start` in elements. */
export interface GpuMatrix extends Omit<Matrix<Slot>, "data"> {
  readonly slot: Slot;
  /** Index of its first element. */
  readonly start: number;
  readonly storage: Storage;
}

/** A row-major matrix that begins with the first element of `slot`. */
export function gpuMatrix(
  slot: Slot,
  { rows, cols, rowStride = cols, storage = "f32" }: {
    readonly rows: number;
    readonly cols: number;
    readonly rowStride?: number;
    readonly storage?: Storage;
  },
): GpuMatrix {
  return { slot, start: 0, storage, rows, cols, rowStride, colStride: 1 };
}

/** Rows `row .. row + rows` and columns `col .. col + cols` of `m`. The caller knows that it has them. */
export function gpuBlock(
  m: GpuMatrix,
  row: number,
  col: number,
  rows: number,
  cols: number,
): GpuMatrix {
  return { ...m, start: m.start + row * m.rowStride + col * m.colStride, rows, cols };
}

/** Rows and columns of a tile that a workgroup of `gemm_f32.wgsl` makes. */
const GEMM_TILE = 64;

/**
 * Records a product: C = gain·A·B, C += gain·A·B or C -= gain·A·B. C is f32, its rows are contiguous, and
 * its buffer is not that of A or B. A and B are stored alike.
 */
export function recordGemm(
  batch: Batch,
  c: GpuMatrix,
  { a, b, mode, gain = 1 }: {
    readonly a: GpuMatrix;
    readonly b: GpuMatrix;
    readonly mode: GemmMode;
    readonly gain?: number;
  },
): void {
  const params = {
    m: c.rows,
    n: c.cols,
    k: a.cols,
    cStart: c.start,
    cRow: c.rowStride,
    aStart: a.start,
    aRow: a.rowStride,
    aCol: a.colStride,
    bStart: b.start,
    bRow: b.rowStride,
    bCol: b.colStride,
    addsToC: mode === "set" ? 0 : 1,
    gain: mode === "subtract" ? -gain : gain,
  };
  const tiles = Math.ceil(c.rows / GEMM_TILE) * Math.ceil(c.cols / GEMM_TILE);
  if (a.storage !== b.storage) {
    throw new TypeError(`Cannot multiply ${a.storage} by ${b.storage}: both are stored alike`);
  }
  batch.dispatch(shaders.gemmShader(a.storage), [c.slot, a.slot, b.slot], params, tiles);
}

/** Widest block, and rows of a workgroup, of `ldlq_block.wgsl`. */
export const LDLQ_WIDTH_MAX = 128;
const LDLQ_ROWS = 16;

/** Operands of `ldlqBlock`. */
export interface GpuLdlqBlock extends Pick<LdlqBlock, "scaleCols" | "groupRows" | "firstRow"> {
  /** Four codes in a word: word of the first one, and words from row to row. */
  readonly codes: { readonly slot: Slot; readonly start: number; readonly rowStride: number };
  /** Becomes the errors. f32. */
  readonly weights: GpuMatrix;
  /** f32. */
  readonly feedback: GpuMatrix;
  readonly panel: GpuMatrix;
  readonly scales: Slot;
  /** u32: the group of each column whose scale it has; with `levels`, behind each one that whose set it has. */
  readonly columnGroups: Slot;
  /** Which of the columns in `columnGroups` is the first one. */
  readonly groupsStart: number;
  /** The levels that codes may be; absent: all from -127 to 127. */
  readonly levels?: GpuBlockLevels | undefined;
}

/** Levels of a block on the device. */
export interface GpuBlockLevels {
  /** u32 `[rows of the layer, across]`; sets that are chosen are stored here. */
  readonly choices: Slot;
  readonly across: number;
  /** i8 `[sets, LEVEL_TABLE]`; with a search, u8 `[256]` behind it: which set it begins with. */
  readonly tables: Slot;
  /** How sets are chosen when their columns are reached, as `BlockSearch` says it; null: they stay. */
  readonly search: { readonly groupCols: number; readonly lastSet: number } | null;
}

/** Bytes of `BlockSearch.first`. */
const FIRST_SETS = 256;

/** Takes tables of levels to the device, and how sets are chosen. */
export function levelSlots(
  batch: Batch,
  nearest: Int8Array,
  search: Pick<BlockSearch, "groupCols" | "first"> | null,
): Pick<GpuBlockLevels, "tables" | "search"> {
  if (search === null) return { tables: batch.input("levels", nearest), search };
  const { groupCols, first } = search, tables = new Uint8Array(nearest.length + FIRST_SETS);
  tables.set(nearest);
  tables.set(first, nearest.length);
  const lastSet = nearest.length / LEVEL_TABLE - 1;
  return { tables: batch.input("levels", tables), search: { groupCols, lastSet } };
}

/** Records `ldlqBlock`, or `ldlqLevels`, of at most {@link LDLQ_WIDTH_MAX} columns. */
export function recordLdlqBlock(batch: Batch, block: GpuLdlqBlock): void {
  const { codes, weights, feedback, panel, scales, columnGroups, levels } = block;
  const params = {
    rows: weights.rows,
    width: weights.cols,
    codesStart: codes.start,
    codesRow: codes.rowStride,
    weightsStart: weights.start,
    weightsRow: weights.rowStride,
    feedbackStart: feedback.start,
    feedbackRow: feedback.rowStride,
    panelStart: panel.start,
    panelRow: panel.rowStride,
    groupsStart: block.groupsStart,
    firstRow: block.firstRow,
    groupRows: block.groupRows,
    scaleCols: block.scaleCols,
    zero: 0,
  };
  const slots = [codes.slot, weights.slot, feedback.slot, panel.slot, scales, columnGroups];
  const workgroups = Math.ceil(weights.rows / LDLQ_ROWS), { storage } = panel;
  if (levels === undefined) {
    batch.dispatch(shaders.ldlqBlockShader(storage), slots, params, workgroups);
    return;
  }
  const { choices, tables, across, search } = levels;
  slots.push(choices, tables);
  const own = { across, setCols: search?.groupCols ?? 0, lastSet: search?.lastSet ?? 0 };
  batch.dispatch(shaders.ldlqLevelsShader(storage), slots, { ...params, ...own }, workgroups);
}

/** Records `out = gain * x` in F16, the storage of `out`, of which rows begin at whole words. */
export function recordNarrow(batch: Batch, out: GpuMatrix, x: GpuMatrix, gain: number): void {
  const { rows, cols } = x;
  const params = {
    rows,
    cols,
    xStart: x.start,
    xRow: x.rowStride,
    outStart: out.start / 2,
    outRow: out.rowStride / 2,
    gain,
    zero: 0,
  };
  const words = rows * Math.ceil(cols / 2);
  batch.dispatch(shaders.narrow, [out.slot, x.slot], params, Math.ceil(words / 256));
}

/** Values that a workgroup of `hadamard.wgsl` takes, and most of them of a line if they lie apart. */
const HADAMARD_VALUES = 1024;
const HADAMARD_APART = 64;

/** Records the Hadamard transform of all rows of `x`, or all columns; f32, a length that is a power of 2. */
export function recordHadamard(batch: Batch, x: GpuMatrix, along: "rows" | "columns"): void {
  const isRows = along === "rows";
  const lines = isRows ? x.rows : x.cols, length = isRows ? x.cols : x.rows;
  const norm = 1 / Math.sqrt(length);
  let apart = 1;
  do {
    const most = isRows && apart === 1 ? HADAMARD_VALUES : HADAMARD_APART;
    const count = Math.min(most, length / apart);
    const blocks = length / apart / count;
    const params = {
      lines,
      lineStride: isRows ? x.rowStride : 1,
      step: isRows ? 1 : x.rowStride,
      apartLog: Math.log2(apart),
      countLog: Math.log2(count),
      blocksLog: Math.log2(blocks),
      linesFirst: isRows ? 0 : 1,
      factor: blocks === 1 ? norm : 1,
      zero: 0,
    };
    const pieces = lines * blocks * apart;
    const workgroups = Math.ceil(pieces / (HADAMARD_VALUES / count));
    batch.dispatch(shaders.hadamard, [x.slot], params, workgroups);
    apart *= count;
  } while (apart < length);
}

/** Records out[r, j] = x[r, order[j]] of f32; `order` u32 `[cols]`. */
export function recordGatherColumns(
  batch: Batch,
  out: Slot,
  { x, order, rows, cols }: {
    readonly x: Slot;
    readonly order: Slot;
    readonly rows: number;
    readonly cols: number;
  },
): void {
  const params = { count: rows * cols, cols };
  batch.dispatch(shaders.gatherColumns, [out, x, order], params, Math.ceil(params.count / 256));
}

/** The same of codes, rows in whole words. */
export function recordGatherCodes(
  batch: Batch,
  out: Slot,
  { x, order, rows, cols }: {
    readonly x: Slot;
    readonly order: Slot;
    readonly rows: number;
    readonly cols: number;
  },
): void {
  const params = { rows, cols, words: Math.ceil(cols / 4) };
  const workgroups = Math.ceil((rows * params.words) / 256);
  batch.dispatch(shaders.gatherCodes, [out, x, order], params, workgroups);
}
