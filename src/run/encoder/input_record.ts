/** What is written of the inputs of linear layers: the rows of some tokens, and statistics of channels. */

import { bytesOf } from "../../core/bytes.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import { f32ToBf16 } from "../../core/dtype.ts";
import { shareOf } from "../../linalg/team.ts";
import type { LinearStep } from "../../presets/encoders/encoder_graph.ts";
import type { ChunkContext, TeamContext } from "../chunks/chunk_context.ts";
import type { EncodeTask } from "../tasks.ts";
import type { ChannelSums } from "./room.ts";
import type { TextBand } from "./text_bands.ts";

/** Inputs of layers that share them, of the tokens of a band: f32 `[tokens, cols]`. */
export interface BandInputs {
  readonly layers: readonly LinearStep[];
  readonly inputs: Float32Array;
  readonly cols: number;
}

/** Adds this member's channels to `sums`, and writes its share of the rows that are kept. */
export function recordInputs(
  team: TeamContext,
  context: ChunkContext,
  task: EncodeTask,
  { sums, band, of }: {
    readonly sums: ChannelSums;
    readonly band: TextBand;
    readonly of: BandInputs;
  },
): void {
  addChannels(team, sums, { ...of, tokens: band.tokens });
  const first = lowerBound(task.kept, band.start);
  const end = lowerBound(task.kept, band.start + band.tokens);
  const own = shareOf(team.linalg.team, first, end), { cols } = of;
  const mark = context.scratch.mark(), row = context.scratch.u16(cols);
  for (let kept = own.start; kept < own.end; kept++) {
    const at = (task.kept[kept]! - band.start) * cols;
    for (let k = 0; k < cols; k++) row[k] = f32ToBf16(of.inputs[at + k]!);
    for (const { weight } of of.layers) {
      const place = task.layers[weight];
      if (place !== undefined) context.write(bytesOf(row), place.rowsOffsetBytes + 2 * kept * cols);
    }
  }
  context.scratch.release(mark);
}

/** Counts what {@link recordInputs} and {@link writeSums} take. */
export function planRecord(memory: CountedMemory, cols: number): void {
  memory.within(() => memory.u16(cols));
  memory.within(() => memory.f32(cols));
}

function addChannels(
  { linalg }: TeamContext,
  { max, sum }: ChannelSums,
  { inputs, cols, tokens }: { inputs: Float32Array; cols: number; tokens: number },
): void {
  const own = shareOf(linalg.team, 0, cols, 16);
  for (let t = 0; t < tokens; t++) {
    const at = t * cols;
    for (let k = own.start; k < own.end; k++) {
      const x = inputs[at + k]!, size = Math.abs(x);
      if (size > max[k]!) max[k] = size;
      sum[k] = sum[k]! + x;
    }
  }
}

/**
 * Writes this member's channels of what was summed up over all tokens, and begins anew.
 *
 * @throws Error if a sum is not finite.
 */
export function writeSums(
  team: TeamContext,
  context: ChunkContext,
  task: EncodeTask,
  { sums, layers, cols }: {
    readonly sums: ChannelSums;
    readonly layers: readonly LinearStep[];
    readonly cols: number;
  },
): void {
  const own = shareOf(team.linalg.team, 0, cols, 16), count = own.end - own.start;
  if (count === 0) return;
  const max = sums.max.subarray(own.start, own.end), sum = sums.sum.subarray(own.start, own.end);
  if (!sum.every(Number.isFinite)) {
    throw new Error(
      `Cannot run the texts through layer ${
        JSON.stringify(layers[0]!.weight)
      }: its inputs are NaN ` +
        "or infinite, so that a tensor before it is damaged or belongs to another model",
    );
  }
  const mark = context.scratch.mark(), mean = context.scratch.f32(count);
  for (let k = 0; k < count; k++) mean[k] = sum[k]! / task.tokens.length;
  for (const { weight } of layers) {
    const place = task.layers[weight];
    if (place === undefined) continue;
    context.write(bytesOf(max), place.maxOffsetBytes + 4 * own.start);
    context.write(bytesOf(mean), place.meanOffsetBytes + 4 * own.start);
  }
  max.fill(0);
  sum.fill(0);
  context.scratch.release(mark);
}

/** Index of the first of `sorted` that is not below `value`. */
function lowerBound(sorted: Int32Array, value: number): number {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
