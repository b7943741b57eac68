/** What all tasks share whose errors are compensated, whatever their codes are. */

import type { Compensation } from "../../calibration/compensation.ts";
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
