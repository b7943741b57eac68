/** The report of an output that was joined: what the parts said of their tensors and layers. */

import { overallOutput } from "../../convert/output_errors.ts";
import type { JoinResult } from "../../convert/parts/join.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import { errorsJson } from "../errors_json.ts";
import { shownLine } from "../shown_text.ts";
import { verdictJson, verdictOf } from "../verdict.ts";
import { versionLine } from "../version.ts";
import { keptOf, layersJson, REPORT_VERSION, type ReportJson } from "./report_data.ts";

/** The report of a join. */
export type JoinedReportJson = ReportJson & { readonly parts: number };

/** Returns the report of all parts. `created` is its time. */
export function joinedReport(
  result: JoinResult,
  { created, elapsedMs, thresholdDb }: { created: Date; elapsedMs: number; thresholdDb: number },
): JoinedReportJson {
  const { layers } = result;
  const planned = result.planned.toSorted((a, b) => a.name < b.name ? -1 : 1);
  const verdict = verdictOf(layers), overall = overallErrors(layers);
  const schemes = new Map(planned.map(({ name, scheme }) => [name, scheme]));
  const bytes = new Map(planned.map(({ name, storedBytes }) => [name, storedBytes]));
  return {
    report_version: REPORT_VERSION,
    program: versionLine(),
    created: created.toISOString(),
    command: result.command.map(shownLine),
    input: result.input,
    output: result.output,
    model: result.model,
    method: `joined of ${result.parts} parts`,
    calibration: null,
    next_step: "",
    input_bytes: result.inputBytes,
    output_bytes: result.outputBytes,
    elapsed_ms: Math.round(elapsedMs),
    workers: 1,
    gpu: null,
    threshold_db: thresholdDb,
    verdict: verdictJson(verdict, null),
    overall: overall === null ? null : errorsJson(overall),
    overall_output: overallOutput(layers),
    layers: layersJson(layers, verdict?.measure ?? "weights", {
      schemeOf: (name) => schemes.get(name) ?? null,
      bytesOf: (name) => bytes.get(name) ?? null,
    }),
    kept: keptOf(planned),
    plan: null,
    parts: result.parts,
  };
}
