/** Nothing that is decoded to infinity or NaN gets into a file: a loader would make garbage of the model. */

import { UnsupportedError } from "../../core/errors.ts";
import { STATS } from "../../backend/backend.ts";
import type { QuantizeTask, Task } from "../tasks.ts";

/**
 * Checks what `task` is about to write.
 *
 * @param view bytes of codes, or of f32 scales.
 * @param address of its first byte, by which scales are distinguished from codes.
 * @throws UnsupportedError if it is a scale that is not finite.
 */
export function refuseInfiniteScales(task: Task, view: Uint8Array, address: number): void {
  if (task.kind !== "quantize") return;
  const { source: { rows, cols }, groupRows, groupCols, levels, transform } = task;
  // Formats of other levels than INT8, and transformed codes, have one f32 scale per row.
  const count = levels === undefined && transform === undefined
    ? (rows / groupRows) * (cols / groupCols)
    : transform?.rows ?? rows;
  const index = (address - task.scalesOffsetBytes) / 4;
  if (index < 0 || index >= count) return;
  const scales = new Float32Array(view.buffer, view.byteOffset, view.length / 4);
  if (scales.every(Number.isFinite)) return;
  throw new UnsupportedError(`its scale would be infinite, as ${tooLarge(task)}`);
}

/**
 * Checks what the codes and scales that were written stand for, and what they were made of: sums of a rotation
 * that overflow make NaN, which has codes of zero.
 *
 * @param stats what `errorStats` found of them, see STATS.
 * @throws UnsupportedError if a value is not finite, or a rotation may have met one.
 */
export function refuseInfiniteValues(task: Task, stats: Float64Array): void {
  if (task.kind !== "quantize") return;
  // Rotations keep the norm; before they are scaled, sums are larger by the root of their length.
  const { convrotGroupSize, transform } = task;
  const length = Math.max(convrotGroupSize ?? 0, transform?.rows ?? 0, transform?.cols ?? 0);
  const largest = 2 * Math.sqrt(length * stats[STATS.squaredSignal]!);
  if (Number.isFinite(stats[STATS.squaredDequantized]!) && largest < LARGEST_F32) return;
  throw new UnsupportedError(`it would be decoded to wrong values, as ${tooLarge(task)}`);
}

const LARGEST_F32 = 3.4e38;

function tooLarge({ convrotGroupSize, transform }: QuantizeTask): string {
  return convrotGroupSize !== null || transform !== undefined
    ? "its values are so large that sums of them, which a rotation makes, exceed F32 (3.4e38); " +
      "`--scaling_mode row` rounds it without one, and `--exclude-layers` keeps it"
    : "its values are as large as F32 holds (3.4e38); `--exclude-layers` keeps it";
}
