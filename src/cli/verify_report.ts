/** The result of `verify` as lines for people and as JSON. */

import { type ErrorsJson, errorsJson } from "./errors_json.ts";
import { type OutputErrors, overallOutput } from "../convert/output_errors.ts";
import type { Problem, VerifyReport } from "../verify/verify.ts";
import type { ComparedLayer, SourceReport } from "../verify/verify_source.ts";
import { runsOn } from "../formats/written_format.ts";
import { formatBytes, visible } from "./format.ts";
import type { PlainRows } from "../convert/plain_rows.ts";
import { qualityText } from "./closing.ts";
import { qualityTable } from "./quality_table.ts";
import { verdictJson, verdictOf } from "./verdict.ts";

/** Layers with the same problem are named up to this many. */
const NAMED_LAYERS = 4;

/** A verified file, with or without its source. */
export interface Verified {
  readonly path: string;
  readonly report: VerifyReport;
  /** Null: no source was given. */
  readonly comparison: SourceReport | null;
  /** What plain rows and the default without data would have given; null or absent: that is not known. */
  readonly plain?: PlainRows | null;
}

/** Returns the stable JSON shape (SPEC of the command line). */
export function verifiedJson(
  { path, report, comparison, plain = null }: Verified,
): Record<string, unknown> {
  return {
    path,
    loads: report.loads,
    problems: [...report.problems, ...comparison?.problems ?? []],
    quantized: report.quantized,
    runs_on: runsOn(Object.keys(report.quantized)),
    tensors: report.tensors,
    checked_bytes: report.checkedBytes,
    ...(comparison === null ? {} : {
      matches_source: comparison.matches,
      identical: comparison.identical,
      cast: comparison.cast.map(layerJson),
      changed: comparison.changed.map(layerJson),
      layers: comparison.layers.map(layerJson),
      overall: comparison.overall === null ? null : errorsJson(comparison.overall),
      overall_output: overallOutput(comparison.layers),
      verdict: verdictJson(verdictOf(comparison.layers), plain),
    }),
  };
}

function layerJson(
  { name, shape, errors, output }: ComparedLayer,
): { name: string; shape: readonly number[]; errors: ErrorsJson; output?: OutputErrors } {
  return { name, shape, errors: errorsJson(errors), ...(output == null ? {} : { output }) };
}

/** Returns the lines of `verify`. */
export function verifiedLines(verified: Verified, options: { thresholdDb: number }): string[] {
  const { path, report, comparison, plain = null } = verified;
  const formats = Object.entries(report.quantized).map(([format, count]) => `${count} ${format}`);
  const quantized = formats.length === 0 ? "no quantized layers" : `${formats.join(", ")} layers`;
  const verdict = report.loads ? "loads in stock ComfyUI" : "does NOT work in stock ComfyUI";
  const lines = [
    visible(`${path}: ${verdict}`),
    visible(`  ${quantized}; ${report.tensors} tensors, ${formatBytes(report.checkedBytes)} read`),
    ...Object.entries(runsOn(Object.keys(report.quantized))).map(([format, on]) =>
      `  ${format} runs on ${on}`
    ),
    ...problemLines(report.problems),
  ];
  if (comparison === null) return lines;
  const { matches, identical, cast, changed, layers } = comparison;
  lines.push(
    "",
    matches ? "matches its source" : "does NOT match its source",
    `  ${layers.length} quantized, ${cast.length} cast, ${changed.length} changed, ` +
      `${identical} identical tensors`,
    ...problemLines(comparison.problems),
  );
  const measured = [...layers, ...changed];
  if (measured.length > 0) lines.push("", ...qualityTable(measured, options).map(visible));
  const judged = verdictOf(layers);
  if (judged !== null && plain !== null) {
    const isInt8 = Object.keys(report.quantized).every((format) => format.startsWith("int8"));
    lines.push("", `quality  ${qualityText(judged, plain, isInt8)}`);
  }
  return lines;
}

/** Problems of one rule and effect are listed together, with their layers. */
function problemLines(problems: readonly Problem[]): string[] {
  const groups = new Map<string, Problem[]>();
  for (const problem of problems) {
    const key = `${problem.severity} ${problem.rule} ${problem.effect}`;
    groups.set(key, [...groups.get(key) ?? [], problem]);
  }
  return [...groups.values()].flatMap((group) => {
    const { severity, rule, effect, detail, hint } = group[0]!;
    const named = group.slice(0, NAMED_LAYERS).map(({ layer }) => layer).filter((l) => l !== "");
    const more = group.length - NAMED_LAYERS;
    const layers = named.join(", ") + (more > 0 ? ` and ${more} more` : "");
    return [
      "",
      `  ${severity}: ${rule}`,
      ...(layers === "" ? [] : [`    layers  ${layers}`]),
      `    detail  ${detail}`,
      `    effect  ${effect}`,
      ...(hint === undefined ? [] : [`    note    ${hint}`]),
    ].map(visible);
  });
}
