/**
 * Adds LoRAs to decoded rows: low-rank pairs as products of the kernels, other kinds in plain loops.
 *
 * Sums of pairs are in f32, about 1e-7 of the change. Layers that become codes have them made of 16-bit integers
 * (`asm/linalg/feed_back_i16.ts`), in less than half the time, with a scale for every row of `b` and every column of
 * `a` in each run of 64 ranks: off by about 2^-14 of the change, where BF16 rounds their sum by 2^-9 of itself. Not
 * those whose columns are no multiple of 8. A GPU does the same, to the same bits.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { LinalgKernels, ShortMatrix } from "../../linalg/linalg_kernels.ts";
import { block, matrix } from "../../linalg/matrix.ts";
import { FEED_BACK_RUN, roomForErrors, shortRunOf } from "../../linalg/packed_factor.ts";
import type { DeltaForm, LoraDelta } from "../../lora/lora_delta.ts";
import { addLoraDelta } from "../../lora/merge.ts";
import type { Rect } from "../chunk_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import type { AddedRows, LowRankRows, ShortRows } from "../gpu_requests.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

/** Rows and columns that products of integers are made by. */
const TILE_ROWS = 4, TILE_COLS = 8;

/** Columns of `a` that are copied to be packed. */
const STRIP_COLS = 512;

type LoraForm = Extract<DeltaForm, { readonly kind: "lora" }>;

/** A pair whose `a` is where the kernels reach it; also in integers, by runs of ranks, if that is how it is merged. */
interface LocalForm extends LoraForm {
  readonly packed?: readonly ShortMatrix[];
}

/** Whether pairs of `matrix` are added as products of integers. */
function mergesInIntegers({ cols, mergesByIntegers }: MatrixSource): boolean {
  return mergesByIntegers === true && cols % TILE_COLS === 0;
}

/** Adds the changes of `matrix` to `x`, the whole rows of `rect`, in order. */
export function mergeRect(
  context: ChunkContext,
  x: Float32Array,
  source: MatrixSource,
  rect: Rect,
): void {
  const add = mergesInIntegers(source) ? addPairInIntegers : addPair;
  for (const delta of source.deltas ?? []) {
    if (!add(context, x, delta, rect)) addLoraDelta(x, delta, { rowStart: rect.row });
  }
}

/**
 * The pairs that a worker copied for its last chunk, at the begin of its memory. The next chunk of the same task, if
 * nothing else came between, finds them there.
 */
export class LocalPairs {
  #source: MatrixSource | null = null;

  /** Forgets them: the next chunk is one of another task. */
  clear(): void {
    this.#source = null;
  }

  /** Whether the pairs of `source` are there; from now on they are. */
  has(source: MatrixSource): boolean {
    const isThere = source === this.#source;
    this.#source = source;
    return isThere;
  }
}

/**
 * Returns `source` with the `a` of its pairs where the kernels reach them: once for all tiles of a chunk, and
 * copied once for all chunks of a task that a worker does in a row. Takes scratch that the caller gives back, and
 * is the first to take any.
 */
export function withLocalPairs(
  context: Pick<ChunkContext, "scratch" | "localPairs" | "linalg">,
  source: MatrixSource,
): MatrixSource {
  const { scratch, localPairs, linalg } = context;
  if (source.deltas === undefined) return source;
  const isThere = localPairs?.has(source) ?? false;
  const deltas = source.deltas.map((delta): LoraDelta => {
    const { form, magnitude } = delta;
    if (form.kind !== "lora" || magnitude !== null) return delta;
    if (mergesInIntegers(source) && linalg !== null) {
      const packed = roomForPacked(scratch, form, delta.cols);
      if (!isThere) packPair(linalg.kernels, scratch, packed, form);
      const local: LocalForm = { ...form, packed };
      return { ...delta, form: local };
    }
    const a = scratch.f32(form.a.length);
    if (!isThere) a.set(form.a);
    return { ...delta, form: { ...form, a } };
  });
  return { ...source, deltas };
}

function roomForPacked(
  memory: Pick<Scratch, "i32" | "f32">,
  { rank }: LoraForm,
  cols: number,
): ShortMatrix[] {
  return runsOf(rank).map(({ terms }) => ({
    pairs: memory.i32(Math.ceil(terms / 2) * cols),
    scales: memory.f32(cols),
  }));
}

/** The ranks that share scales. */
function runsOf(rank: number): { readonly first: number; readonly terms: number }[] {
  return Array.from({ length: Math.ceil(rank / FEED_BACK_RUN) }, (_, run) => {
    const first = run * FEED_BACK_RUN;
    return { first, terms: Math.min(FEED_BACK_RUN, rank - first) };
  });
}

function roomForStrip(memory: Pick<Scratch, "f32">, rank: number, cols: number): Float32Array {
  return memory.f32(Math.min(FEED_BACK_RUN, rank) * Math.min(STRIP_COLS, cols));
}

/** Packs `a`, strip by strip of columns. */
function packPair(
  kernels: LinalgKernels,
  scratch: Scratch,
  packed: readonly ShortMatrix[],
  { a, rank }: LoraForm,
): void {
  const cols = a.length / rank, mark = scratch.mark();
  const strip = roomForStrip(scratch, rank, cols);
  runsOf(rank).forEach(({ first, terms }, run) => {
    const { pairs, scales } = packed[run]!;
    for (let left = 0; left < cols; left += STRIP_COLS) {
      const width = Math.min(STRIP_COLS, cols - left);
      for (let k = 0; k < terms; k++) {
        const from = (first + k) * cols + left;
        strip.set(a.subarray(from, from + width), k * width);
      }
      const into = {
        pairs: pairs.subarray(left * Math.ceil(terms / 2)),
        scales: scales.subarray(left),
      };
      kernels.packFactor(into, matrix(strip.subarray(0, terms * width), terms, width));
    }
  });
  scratch.release(mark);
}

/** Whether all changes of `source` are pairs of factors. */
export function hasPairsOnly({ deltas = [] }: MatrixSource): boolean {
  return deltas.every(({ form, magnitude }) => form.kind === "lora" && magnitude === null);
}

/**
 * Returns what the pairs of `source`, whose changes are all pairs, add to the rows of `rect`, in scratch that the
 * caller gives back.
 */
export function addedRows(
  context: Pick<ChunkContext, "scratch" | "linalg">,
  source: MatrixSource,
  rect: Rect,
): AddedRows[] {
  return (source.deltas ?? []).flatMap((delta): AddedRows[] => {
    const { form } = delta, place = rowsOf(delta, rect);
    if (form.kind !== "lora") {
      throw new TypeError(`Cannot take a change of kind ${form.kind} apart`);
    }
    if (place === null) return [];
    return mergesInIntegers(source) && context.linalg !== null
      ? shortRows(context.scratch, context.linalg.kernels, delta, form, { ...place, rect })
      : [lowRankRows(context.scratch, delta, form, { ...place, rect })];
  });
}

/** Rows of a rectangle that a change touches: the first one, of the weight, and how many. */
interface TouchedRows {
  readonly first: number;
  readonly rows: number;
  readonly rect: Rect;
}

function lowRankRows(
  scratch: Scratch,
  delta: LoraDelta,
  form: LoraForm,
  { first, rows, rect }: TouchedRows,
): LowRankRows {
  const { rank } = form;
  let { a } = form;
  const b = scratch.f32(rows * rank);
  fillFactors(b, delta, form, first);
  if (a.buffer !== b.buffer) {
    a = scratch.f32(rank * delta.cols);
    a.set(form.a);
  }
  return { firstRow: first - rect.row, rank, b, a };
}

function shortRows(
  scratch: Scratch,
  kernels: LinalgKernels,
  delta: LoraDelta,
  form: LocalForm,
  { first, rows, rect }: TouchedRows,
): ShortRows[] {
  const { rank } = form;
  let { packed } = form;
  if (packed === undefined) {
    packed = roomForPacked(scratch, form, delta.cols);
    packPair(kernels, scratch, packed, form);
  }
  const b = scratch.f32(rows * rank), errors = roomForErrors(scratch, rows, rank);
  fillFactors(b, delta, form, first);
  return runsOf(rank).map(({ first: k, terms }, run) => {
    const left = shortRunOf(errors, run);
    kernels.packErrors(left, block(matrix(b, rows, rank), 0, k, rows, terms));
    return { firstRow: first - rect.row, rows, terms, left, right: packed[run]! };
  });
}

/** The rows of `rect` that a change touches; null: none. */
function rowsOf(
  { rowStart, rowCount }: LoraDelta,
  rect: Rect,
): { readonly first: number; readonly rows: number } | null {
  const first = Math.max(rect.row, rowStart);
  const rows = Math.min(rect.row + rect.rows, rowStart + rowCount) - first;
  return rows <= 0 ? null : { first, rows };
}

/** Fills `out` with rows of `b` from row `first` of the weight on, times what the change is multiplied by. */
function fillFactors(
  out: Float32Array,
  { rowStart, scaling, strength }: LoraDelta,
  { b, rank }: LoraForm,
  first: number,
): void {
  const from = (first - rowStart) * rank, factor = scaling * strength;
  for (let i = 0; i < out.length; i++) out[i] = b[from + i]! * factor;
}

/** Adds `factor * b · a` to the rows that it touches; false if the change is of another kind. */
function addPair(context: ChunkContext, x: Float32Array, delta: LoraDelta, rect: Rect): boolean {
  const { linalg, scratch } = context, { form, magnitude, cols } = delta;
  if (linalg === null || form.kind !== "lora" || magnitude !== null) return false;
  const place = rowsOf(delta, rect);
  if (place === null) return true;
  const mark = scratch.mark();
  const { firstRow, rank, b, a } = lowRankRows(scratch, delta, form, { ...place, rect });
  const { rows } = place, at = firstRow * cols;
  linalg.kernels.addLowRank(x.subarray(at, at + rows * cols), b, a, { rows, cols, rank });
  scratch.release(mark);
  return true;
}

/** The same with products of integers. */
function addPairInIntegers(
  context: ChunkContext,
  x: Float32Array,
  delta: LoraDelta,
  rect: Rect,
): boolean {
  const { linalg, scratch } = context, { form, magnitude, cols } = delta;
  if (linalg === null || form.kind !== "lora" || magnitude !== null) return false;
  const place = rowsOf(delta, rect);
  if (place === null) return true;
  const { rows } = place, { kernels } = linalg, mark = scratch.mark();
  const runs = shortRows(scratch, kernels, delta, form, { ...place, rect });
  const at = (place.first - rect.row) * cols;
  addShortRows(kernels, x.subarray(at, at + rows * cols), scratch.f32(TILE_ROWS * cols), runs);
  scratch.release(mark);
  return true;
}

/**
 * Fills `x`, the whole rows of `rect`, with what the changes of `source` add to them, if that is one product of
 * integers in whole tiles: added to the stored values, it gives the bits that {@link mergeRect} does. False, and
 * nothing is done, if it is anything else.
 */
export function changeOfRect(
  context: ChunkContext,
  x: Float32Array,
  source: MatrixSource,
  rect: Rect,
): boolean {
  const { linalg, scratch } = context, [delta, ...others] = source.deltas ?? [];
  if (linalg === null || delta === undefined || others.length > 0) return false;
  const { form, magnitude } = delta;
  if (form.kind !== "lora" || magnitude !== null || !mergesInIntegers(source)) return false;
  const place = rowsOf(delta, rect), isWhole = place?.rows === rect.rows;
  if (!isWhole || rect.rows % TILE_ROWS !== 0 || form.rank > FEED_BACK_RUN) return false;
  const mark = scratch.mark();
  for (const run of shortRows(scratch, linalg.kernels, delta, form, { ...place, rect })) {
    const into = matrix(x, rect.rows, source.cols);
    linalg.kernels.feedBack(into, run.left, run.right, run.terms, false);
  }
  scratch.release(mark);
  return true;
}

/**
 * Adds what `runs` say to `x`, f32 `[rows, cols]`, their rows.
 *
 * @param rest f32 `[4, cols]`, where the kernels reach it: for rows that fill no tile.
 */
export function addShortRows(
  kernels: Pick<LinalgKernels, "feedBack">,
  x: Float32Array,
  rest: Float32Array,
  runs: readonly ShortRows[],
): void {
  for (const { rows, terms, left, right } of runs) {
    const cols = x.length / rows, whole = rows - rows % TILE_ROWS;
    if (whole > 0) {
      const into = matrix(x.subarray(0, whole * cols), whole, cols);
      kernels.feedBack(into, left, right, terms, true);
    }
    if (whole === rows) continue;
    const last = {
      pairs: left.pairs.subarray(whole * Math.ceil(terms / 2)),
      scales: left.scales.subarray(whole),
    };
    rest.set(x.subarray(whole * cols));
    kernels.feedBack(matrix(rest, TILE_ROWS, cols), last, right, terms, true);
    x.set(rest.subarray(0, (rows - whole) * cols), whole * cols);
  }
}

/** Whether a change is added as a product of factors. */
function isPair({ form, magnitude }: LoraDelta): boolean {
  return form.kind === "lora" && magnitude === null;
}

/** Counts what {@link withLocalPairs} leaves, and takes on its way. */
export function planLocalPairs(memory: CountedMemory, source: MatrixSource): void {
  for (const { form, cols } of (source.deltas ?? []).filter(isPair)) {
    if (form.kind !== "lora") continue;
    if (!mergesInIntegers(source)) memory.f32(form.a.length);
    else {
      roomForPacked(memory, form, cols);
      memory.within(() => roomForStrip(memory, form.rank, cols));
    }
  }
}

/**
 * Counts what {@link mergeRect} takes for `rows` rows.
 *
 * @param areLocal whether the `a` of pairs are where the kernels reach them. @param together whether all pairs
 * are taken at once.
 */
export function planMerge(
  memory: CountedMemory,
  source: MatrixSource,
  rows: number,
  { areLocal, together = false }: { readonly areLocal: boolean; readonly together?: boolean },
): void {
  const mark = memory.mark();
  for (const { form, cols, rowCount } of (source.deltas ?? []).filter(isPair)) {
    if (form.kind !== "lora") continue;
    const most = Math.min(rows, rowCount), { rank } = form;
    if (mergesInIntegers(source)) {
      if (!areLocal) {
        roomForPacked(memory, form, cols);
        memory.within(() => roomForStrip(memory, rank, cols));
      }
      memory.f32(most * rank);
      roomForErrors(memory, most, rank);
      memory.f32(TILE_ROWS * cols);
    } else {
      memory.f32(most * rank);
      if (!areLocal) memory.f32(rank * cols);
    }
    if (!together) memory.release(mark);
  }
  memory.release(mark);
}
