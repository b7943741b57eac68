/** Adds LoRAs to decoded rows: low-rank pairs as a matrix product of the kernels, other kinds in plain loops. */

import type { LoraDelta } from "../../lora/lora_delta.ts";
import { addLoraDelta } from "../../lora/merge.ts";
import type { MatrixSource, Rect } from "../tasks.ts";
import type { ChunkContext } from "./chunk_context.ts";

/**
 * Adds the changes of `matrix` to `x`, the whole rows of `rect`, in order.
 *
 * Sums of pairs are in f32 here, some 1e-7 of the change.
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
 * Returns `source` with the `a` of its pairs copied to where the kernels reach them: once for all tiles of
 * a chunk. Takes scratch that the caller gives back.
 */
export function withLocalPairs({ scratch }: ChunkContext, source: MatrixSource): MatrixSource {
  if (source.deltas === undefined) return source;
  const deltas = source.deltas.map((delta): LoraDelta => {
    const { form, magnitude } = delta;
    if (form.kind !== "lora" || magnitude !== null) return delta;
    const a = scratch.f32(form.a.length);
    a.set(form.a);
    return { ...delta, form: { ...form, a } };
  });
  return { ...source, deltas };
}

/** Adds `factor * b · a` to the rows that it touches; false where the change is of another kind. */
function addPair(
  { linalg, scratch }: ChunkContext,
  x: Float32Array,
  { form, magnitude, cols, rowStart, rowCount, scaling, strength }: LoraDelta,
  rect: Rect,
): boolean {
  if (linalg === null || form.kind !== "lora" || magnitude !== null) return false;
  const first = Math.max(rect.row, rowStart);
  const rows = Math.min(rect.row + rect.rows, rowStart + rowCount) - first;
  if (rows <= 0) return true;
  const { rank } = form;
  const mark = scratch.mark();
  let { a } = form;
  const b = scratch.f32(rows * rank);
  const from = (first - rowStart) * rank;
  const factor = scaling * strength;
  for (let i = 0; i < b.length; i++) b[i] = form.b[from + i]! * factor;
  const at = (first - rect.row) * cols;
  if (a.buffer !== b.buffer) {
    a = scratch.f32(rank * cols);
    a.set(form.a);
  }
  linalg.kernels.addLowRank(x.subarray(at, at + rows * cols), b, a, { rows, cols, rank });
  scratch.release(mark);
  return true;
}

/** Bytes of scratch that {@link mergeRect} takes for `rows` rows. */
export function mergeScratchBytes({ deltas = [] }: MatrixSource, rows: number): number {
  const bytes = deltas.map(({ form, cols }) =>
    form.kind === "lora" ? 4 * form.rank * (cols + rows) + 128 : 0
  );
  return bytes.reduce((sum, size) => sum + size, 0);
}
