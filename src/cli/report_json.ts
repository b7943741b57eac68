/** The work of a method on a layer, for programs. */

import type { LayerResult } from "../convert/convert.ts";
import { type CompensatedRows, describeNote } from "../run/layer_notes.ts";

/** Returns what the method did with a layer, in words and as data. */
export function noteJson(
  { note, compensated }: Pick<LayerResult, "note" | "compensated">,
): Record<string, unknown> {
  const text = { note: describeNote(note, compensated) };
  switch (note?.kind) {
    case undefined:
      return text;
    case "compensated":
      return {
        ...text,
        method_report: {
          kind: note.kind,
          manner: MANNERS[note.manner],
          statistic: note.statistic,
          lora_directions: note.directions,
          damping: note.damping,
          damping_raised: note.dampingRaised,
          segments: note.segments,
          dead_channels: note.deadChannels,
          row_space: note.inRowSpace,
          ...(note.experts === undefined
            ? {}
            : { experts: note.experts.all, experts_compensated: note.experts.compensated }),
        },
      };
    case "learned": // its report has a field of its own
    case "transformed":
      return { ...text, method_report: { kind: note.kind } };
    case "fallback":
      return { ...text, method_report: note };
  }
}

const MANNERS = {
  gptq: "gptq",
  guardedQuip: "guarded_quip",
  transformedQuip: "transformed_quip",
} as const;

/** Returns the rows of a compensated layer, all of them and those that were rounded to nearest. */
export function compensatedJson(rows: CompensatedRows | null): Record<string, unknown> {
  return rows === null ? {} : { rows: rows.all, rows_to_nearest: rows.toNearest };
}
