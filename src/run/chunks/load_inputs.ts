/** Reads a row of calibration data. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Statistic, StatisticData } from "../../calibration/calibration.ts";
import { elementBytes } from "../tasks.ts";
import type { ChunkContext } from "./chunk_context.ts";

/** Fills `out` (K long) with row `index` of `data`, its channels multiplied by their factors. */
export function loadInputRow(
  context: Pick<ChunkContext, "scratch" | "kernels" | "read">,
  { data, statistic }: { readonly data: StatisticData; readonly statistic: Statistic },
  index: number,
  out: Float32Array,
): void {
  const cols = out.length;
  if (data.kind === "inline") {
    out.set(data.values.subarray(index * cols, (index + 1) * cols));
  } else {
    const mark = context.scratch.mark();
    const rowBytes = cols * elementBytes(data.dtype);
    const raw = context.scratch.u8(rowBytes);
    context.read(data.file, raw, data.offsetBytes + index * rowBytes);
    context.kernels.decode(out, raw, data.dtype);
    context.scratch.release(mark);
  }
  const { factors } = data;
  if (factors === undefined) return;
  // A row of second moments belongs to a channel itself.
  const own = statistic === "hessian" ? factors[index]! : 1;
  for (let k = 0; k < cols; k++) out[k] = out[k]! * factors[k]! * own;
}

/** Counts what {@link loadInputRow} takes for a row of `cols` channels. */
export function planInputRow(
  memory: CountedMemory,
  { data }: { readonly data: StatisticData },
  cols: number,
): void {
  if (data.kind === "file") memory.within(() => memory.u8(cols * elementBytes(data.dtype)));
}
