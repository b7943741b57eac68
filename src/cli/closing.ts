/** The lines that end a conversion: what was written, how long it took, how good it is, what next. Pure. */

import type { ConvertResult } from "../convert/convert.ts";
import type { PlainRows } from "../convert/plain_rows.ts";
import { formatBytes, formatPercent, formatSeconds, visible } from "./format.ts";
import { countsText } from "./fit_report.ts";
import { nextStep } from "./next_step.ts";
import { MEASURE_NAMES, type Verdict, verdictOf } from "./verdict.ts";

/** Returns the lines; `plain` is what plain rows would have given, null if that is not known. */
export function closingLines(result: ConvertResult, plain: PlainRows | null): string[] {
  const { totals } = result.plan;
  const verdict = verdictOf(result.layers);
  return [
    `done: ${visible(result.output)}`,
    `  size     ${sizeText(totals.inputBytes, totals.outputBytes)}`,
    `  time     ${timeText(result)}`,
    ...(result.fit === null ? [] : [`  formats  ${countsText(result.fit.layers)}`]),
    ...(verdict === null ? [] : [
      `  quality  ${qualityText(verdict, plain, isAllInt8(result))}`,
      `  worst    ${formatPercent(verdict.worst.error)}, ${visible(verdict.worst.name)}`,
    ]),
    `  next     ${nextText(result)}`,
  ];
}

/** Whether no layer has fewer bits than INT8, or floats. */
export function isAllInt8({ plan }: Pick<ConvertResult, "plan">): boolean {
  return plan.tensors.every(({ scheme }) =>
    scheme === null || (scheme.levels === undefined && scheme.floats === undefined)
  );
}

/**
 * Returns `near-lossless: weight error 0.82 % (41.7 dB), plain rows about 3.05 %`. What others would have given is that
 * of INT8, which is said if layers have fewer bits.
 */
export function qualityText(verdict: Verdict, plain: PlainRows | null, isInt8: boolean): string {
  const { grade, measure, error, sqnrDb } = verdict;
  const decibels = measure === "weights"
    ? ` (${sqnrDb === null ? "exact" : `${sqnrDb.toFixed(1)} dB`})`
    : "";
  const baseline = plainError(verdict, plain);
  const byDefault = measure === "w8a8" ? plain?.defaultW8a8 ?? null : null;
  const other = isInt8 ? "" : "INT8 ", rows = isInt8 ? "plain rows" : "INT8 in plain rows";
  return `${grade}: ${MEASURE_NAMES[measure]} ${formatPercent(error)}${decibels}` +
    (byDefault === null ? "" : `, ${other}without data about ${formatPercent(byDefault)}`) +
    (baseline === null ? "" : `, ${rows} ${baseline}`);
}

/** Returns the error of plain rows by the measure of the verdict, as text; null if it is not known. */
function plainError({ measure }: Verdict, plain: PlainRows | null): string | null {
  if (plain === null || measure === "w8a16") return null;
  const error = measure === "w8a8" ? plain.w8a8 : plain.relativeError;
  if (error === null) return null;
  // Outputs are computed for a few rows of each layer only.
  const isSample = measure === "w8a8" || plain.sampledRows < plain.rows;
  return `${isSample ? "about " : ""}${formatPercent(error)}`;
}

/** Returns `320 MB -> 182 MB, 138 MB (43 %) saved`. */
function sizeText(inputBytes: number, outputBytes: number): string {
  const sizes = `${formatBytes(inputBytes)} -> ${formatBytes(outputBytes)}`;
  const saved = inputBytes - outputBytes;
  if (saved <= 0) return sizes;
  return `${sizes}, ${formatBytes(saved)} (${Math.round((100 * saved) / inputBytes)} %) saved`;
}

/** The rate is that of the input read in that time; less of it after a resumed run. */
function timeText({ plan: { totals }, elapsedMs, resumed }: ConvertResult): string {
  const read = totals.inputBytes * (1 - (resumed ?? 0));
  return `${formatSeconds(elapsedMs)}, ` +
    `${formatBytes((1000 * read) / Math.max(elapsedMs, 1))}/s of input`;
}

function nextText({ part, plan, output }: ConvertResult): string {
  return part === null
    ? nextStep(plan, output)
    : "`quantsmith join` makes the output once all parts are there";
}
