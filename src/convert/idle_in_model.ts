/** Options that cannot change anything in this model, although they could in another. Pure. */

import type { ConvertOptions } from "../plan/options.ts";
import type { Plan } from "../plan/plan.ts";
import { segmentSize } from "../run/chunks/segment_size.ts";

/** Returns one sentence for each. */
export function idleInModel(
  { tensors }: Pick<Plan, "tensors">,
  { segments, layers }: Pick<ConvertOptions, "segments" | "layers">,
): string[] {
  const notes: string[] = [];
  const quantized = tensors.filter(({ action }) => action === "quantize");
  if (segments !== null) {
    const widths = quantized.map(({ source }) => source.shape.at(-1) ?? 0);
    const widest = widths.reduce((most, cols) => Math.max(most, cols), 0);
    if (widest < segments.threshold) {
      notes.push(
        `--quip-checkpointed has no effect: no quantized layer has ${segments.threshold} columns, from ` +
          `which layers are cut; the widest has ${widest} (--quip-checkpoint-threshold sets the limit)`,
      );
    }
    const uncut = quantized.filter(({ source, scheme }) => {
      const cols = source.shape.at(-1) ?? 0;
      return cols >= segments.threshold &&
        segmentSize(cols, scheme?.convrotGroupSize ?? null, segments) === cols;
    });
    if (segments.count > 1 && uncut.length > 0) {
      notes.push(
        `${uncut.length} layers are not cut into segments, as their columns are one rotation group: ` +
          `${uncut[0]!.source.name}${uncut.length > 1 ? " ..." : ""}`,
      );
    }
  }
  const fallback = layers?.flags.fallback ?? null;
  if (fallback !== null && !tensors.some(({ reason }) => reason.includes(fallback.origin))) {
    notes.push(
      `${fallback.origin} has no effect: no layer is kept that it could convert (embeddings and norms ` +
        "stay in any case)",
    );
  }
  return notes;
}
