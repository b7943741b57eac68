/** What all tasks share whose errors are compensated, whatever their codes are. */

import type { Compensation } from "../../calibration/compensation.ts";
import { LDLQ_BLOCK } from "../../linalg/packed_factor.ts";
import type { GptqFactor } from "../../quant/gptq.ts";
import type { CompensatedNote, Note } from "../note.ts";
import type { QuantizeTask } from "../tasks.ts";

/** Whether errors are fed back in integers: on a GPU, and if it fails on the way, it is in f32. */
export function feedsIntegers({ compensation, onGpu }: QuantizeTask): boolean {
  return (compensation?.turbo ?? false) && onGpu === undefined;
}

/** Result of the Hessian. */
export function compensatedNote(
  manner: CompensatedNote["manner"],
  { statistic, directions }: Compensation,
  { size, blockSize, report }: Pick<GptqFactor, "size" | "blockSize" | "report">,
  { inRowSpace = false }: { readonly inRowSpace?: boolean } = {},
): Note {
  const { damping, dampingRaised, deadChannels, fallback } = report;
  if (fallback !== null) return { kind: "fallback", reason: fallback };
  return {
    kind: "compensated",
    manner,
    statistic,
    directions: directions?.rank ?? null,
    damping,
    dampingRaised,
    segments: statistic === "channels" ? 1 : size / blockSize,
    deadChannels,
    inRowSpace,
  };
}

/**
 * Columns that stay side by side while a layer is rounded: those of a group, if groups choose their sets when they
 * are reached, for their weights with what is fed back into them. They do if there are several sets, and if
 * they lie within the blocks of columns that are rounded at a time.
 */
export function unitColsOf({ levels }: QuantizeTask): number {
  if (levels === undefined || levels.scheme.kind !== "scaled") return 1;
  const { groupCols } = levels.scheme;
  return LDLQ_BLOCK % groupCols === 0 ? groupCols : 1;
}
