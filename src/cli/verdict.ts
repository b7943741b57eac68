/** The quality of a conversion in one word, by the measure that it was made for. Pure. */

import type { PlainRows } from "../convert/plain_rows.ts";
import type { MeasuredLayer } from "./quality_table.ts";
import { type OverallOutput, overallOutput } from "../convert/output_errors.ts";
import { overallErrors, worstLayersFirst } from "../run/layer_statistics.ts";

/** How close a file is to its source. */
export type Grade = "near-lossless" | "good" | "fair" | "poor";

/** Which error a verdict goes by. */
export type Measure =
  /** Outputs with int8 inputs, as ComfyUI computes; measured with calibration data. */
  | "w8a8"
  /** Outputs with inputs as they are: the data has no single inputs, or the format is not INT8. */
  | "w8a16"
  /** Weights alone: no calibration data. */
  | "weights";

/** The verdict on a file. */
export interface Verdict {
  readonly grade: Grade;
  readonly measure: Measure;
  /** The relative error that it goes by. */
  readonly error: number;
  /** SQNR of all weights together, in dB; null if there is no error. */
  readonly sqnrDb: number | null;
  /** The output errors, if outputs were measured. */
  readonly output: OverallOutput | null;
  /** The worst layer by that measure, with its error. */
  readonly worst: { readonly name: string; readonly error: number };
}

/**
 * Largest errors of each grade. Weights: rotated rows have 0.8 %, plain rows and FP8 about 3 %. Outputs with
 * int8 inputs: rotated rows have 1.2 %, plain rows about 6 % (`docs/quality.md`).
 */
export const GRADES: Readonly<Record<Measure, readonly (readonly [Grade, number])[]>> = {
  weights: [["near-lossless", 0.015], ["good", 0.04], ["fair", 0.1]],
  w8a16: [["near-lossless", 0.015], ["good", 0.04], ["fair", 0.1]],
  w8a8: [["near-lossless", 0.02], ["good", 0.07], ["fair", 0.12]],
};

/** Names of the measures for people. */
export const MEASURE_NAMES: Readonly<Record<Measure, string>> = {
  weights: "weight error",
  w8a16: "output error",
  w8a8: "output error (int8 inputs)",
};

/** Returns the verdict on `layers`; null if there are none. */
export function verdictOf(layers: readonly MeasuredLayer[]): Verdict | null {
  const overall = overallErrors(layers);
  if (overall === null) return null;
  const output = overallOutput(layers);
  const measure: Measure = output === null ? "weights" : output.w8a8 === null ? "w8a16" : "w8a8";
  const error = output === null ? overall.relativeError : output.w8a8 ?? output.w8a16;
  const worst = worstBy(layers, measure)[0]!;
  return {
    grade: GRADES[measure].find(([, most]) => error <= most)?.[0] ?? "poor",
    measure,
    error,
    sqnrDb: overall.sqnrDb,
    output,
    worst: { name: worst.name, error: errorOf(worst, measure) ?? worst.errors.relativeError },
  };
}

/** Returns the layers by falling error in `measure`; those without it follow, by falling weight error. */
export function worstBy<T extends MeasuredLayer>(layers: readonly T[], measure: Measure): T[] {
  return worstLayersFirst(layers).sort((a, b) =>
    (errorOf(b, measure) ?? -1) - (errorOf(a, measure) ?? -1)
  );
}

/** Returns a layer's error by a measure; null if it was not measured. */
export function errorOf({ errors, output }: MeasuredLayer, measure: Measure): number | null {
  return measure === "weights" ? errors.relativeError : output?.[measure] ?? null;
}

/** The verdict as reports and events have it. */
export interface VerdictJson {
  readonly grade: Grade;
  readonly measure: Measure;
  readonly error: number;
  readonly worst_layer: string;
  readonly worst_error: number;
  /** Errors of plain rows; null if they could not be measured. */
  readonly plain_rows: {
    readonly relative_error: number;
    readonly sqnr_db: number | null;
    readonly w8a8: number | null;
    readonly sampled_rows: number;
    readonly rows: number;
  } | null;
  /** Output error of the default without data; null if no inputs are known. */
  readonly default_w8a8: number | null;
}

/** Returns the verdict for programs, beside what plain rows would have given. */
export function verdictJson(
  verdict: Verdict | null,
  plain: PlainRows | null,
): VerdictJson | null {
  if (verdict === null) return null;
  const { grade, measure, error, worst } = verdict;
  return {
    grade,
    measure,
    error,
    worst_layer: worst.name,
    worst_error: worst.error,
    plain_rows: plain === null ? null : {
      relative_error: plain.relativeError,
      sqnr_db: plain.sqnrDb,
      w8a8: plain.w8a8,
      sampled_rows: plain.sampledRows,
      rows: plain.rows,
    },
    default_w8a8: plain?.defaultW8a8 ?? null,
  };
}
