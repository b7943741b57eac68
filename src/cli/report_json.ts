/** `--report FILE.json`: what a conversion did, for programs. */

import type { LearnedReport } from "../quant/learned/report.ts";
import type { ConvertResult, LayerResult } from "../convert/convert.ts";
import { type CompensatedRows, describeNote } from "../run/layer_notes.ts";
import { planJson } from "./plan_report.ts";
import { overallOutput, worstFirst } from "../convert/output_errors.ts";
import { overallErrors } from "../run/layer_statistics.ts";

/** Returns the report: the plan, the errors of every quantized layer (worst first), the whole. */
export function conversionReport(result: ConvertResult): Record<string, unknown> {
  return {
    output: result.output,
    elapsed_ms: Math.round(result.elapsedMs),
    workers: result.workers,
    overall: overallErrors(result.layers),
    overall_output: overallOutput(result.layers),
    layers: worstFirst(result.layers).map((
      { name, shape, errors, output, bias, note, compensated, learned },
    ) => ({
      name,
      shape,
      errors,
      output,
      bias,
      ...noteJson({ note, compensated }),
      ...compensatedJson(compensated),
      ...(learned === null ? {} : { learned: summary(learned) }),
    })),
    plan: planJson(result.plan),
  };
}

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

/** Without the trajectory, of which `--json` has every step. */
function summary({ trajectory: _, ...rest }: LearnedReport): Omit<LearnedReport, "trajectory"> {
  return rest;
}
