/** Adds LoRAs to decoded rows: low-rank pairs as a matrix product of the kernels, other kinds in plain loops. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { LoraDelta } from "../../lora/lora_delta.ts";
import { addLoraDelta } from "../../lora/merge.ts";
import type { Rect } from "../chunk_grid.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import type { ChunkContext } from "./chunk_context.ts";

/**
 * Adds the changes of `matrix` to `x`, the whole rows of `rect`, in order.
 *
 * Sums of pairs are in f32 here, about 1e-7 of the change.
 */
export function mergeRect(
  context: ChunkContext,
  x: Float32Array,
  source: MatrixSource,
  rect: Rect,
): void {
  for (const delta of source.deltas ?? []) {
    if (!addPair(context, x, delta, rect)) addLoraDelta(x, delta, { rowStart: rect.row });
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
  { scratch, localPairs }: Pick<ChunkContext, "scratch" | "localPairs">,
  source: MatrixSource,
): MatrixSource {
  if (source.deltas === undefined) return source;
  const isThere = localPairs?.has(source) ?? false;
  const deltas = source.deltas.map((delta): LoraDelta => {
    const { form, magnitude } = delta;
    if (form.kind !== "lora" || magnitude !== null) return delta;
    const a = scratch.f32(form.a.length);
    if (!isThere) a.set(form.a);
    return { ...delta, form: { ...form, a } };
  });
  return { ...source, deltas };
}

/** Whether all changes of `source` are pairs of factors. */
export function hasPairsOnly({ deltas = [] }: MatrixSource): boolean {
  return deltas.every(({ form, magnitude }) => form.kind === "lora" && magnitude === null);
}

/** `b · a`, added to the rows of a rectangle from `firstRow` on. */
export interface Pair {
  readonly firstRow: number;
  readonly rank: number;
  /** f32 `[rows, rank]` and `[rank, cols]`, where the kernels reach them. */
  readonly b: Float32Array;
  readonly a: Float32Array;
}

/**
 * Returns what a pair adds to the rows of `rect`, in scratch that the caller gives back; null if it adds
 * nothing. The change is a pair.
 */
export function pairOf(
  { scratch }: Pick<ChunkContext, "scratch">,
  { form, cols, rowStart, rowCount, scaling, strength }: LoraDelta,
  rect: Rect,
): Pair | null {
  if (form.kind !== "lora") throw new TypeError(`Cannot take a change of kind ${form.kind} apart`);
  const first = Math.max(rect.row, rowStart);
  const rows = Math.min(rect.row + rect.rows, rowStart + rowCount) - first;
  if (rows <= 0) return null;
  const { rank } = form;
  let { a } = form;
  const b = scratch.f32(rows * rank);
  const from = (first - rowStart) * rank;
  const factor = scaling * strength;
  for (let i = 0; i < b.length; i++) b[i] = form.b[from + i]! * factor;
  if (a.buffer !== b.buffer) {
    a = scratch.f32(rank * cols);
    a.set(form.a);
  }
  return { firstRow: first - rect.row, rank, b, a };
}

/** Adds `factor * b · a` to the rows that it touches; false if the change is of another kind. */
function addPair(context: ChunkContext, x: Float32Array, delta: LoraDelta, rect: Rect): boolean {
  const { linalg, scratch } = context, { form, magnitude, cols } = delta;
  if (linalg === null || form.kind !== "lora" || magnitude !== null) return false;
  const mark = scratch.mark();
  const pair = pairOf(context, delta, rect);
  if (pair !== null) {
    const { firstRow, rank, b, a } = pair;
    const rows = b.length / rank, at = firstRow * cols;
    linalg.kernels.addLowRank(x.subarray(at, at + rows * cols), b, a, { rows, cols, rank });
  }
  scratch.release(mark);
  return true;
}

/** Whether a change is added as a product of factors. */
function isPair({ form, magnitude }: LoraDelta): boolean {
  return form.kind === "lora" && magnitude === null;
}

/** Counts what {@link withLocalPairs} leaves. */
export function planLocalPairs(memory: CountedMemory, { deltas = [] }: MatrixSource): void {
  for (const { form } of deltas.filter(isPair)) if (form.kind === "lora") memory.f32(form.a.length);
}

/**
 * Counts what {@link mergeRect} takes for `rows` rows.
 *
 * @param areLocal whether the `a` of pairs are where the kernels reach them. @param together whether all pairs
 * are taken at once.
 */
export function planMerge(
  memory: CountedMemory,
  { deltas = [] }: MatrixSource,
  rows: number,
  { areLocal, together = false }: { readonly areLocal: boolean; readonly together?: boolean },
): void {
  const mark = memory.mark();
  for (const { form, cols, rowCount } of deltas.filter(isPair)) {
    if (form.kind !== "lora") continue;
    memory.f32(Math.min(rows, rowCount) * form.rank);
    if (!areLocal) memory.f32(form.rank * cols);
    if (!together) memory.release(mark);
  }
  memory.release(mark);
}
