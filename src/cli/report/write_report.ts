/** `--report FILE`: writes the report in the form that the file's name asks for. */

import { later } from "../../core/later.ts";
import { compileLayerPattern } from "../../config/layer_pattern.ts";
import { layerName } from "../../core/layer_name.ts";
import { UnsupportedError } from "../../core/errors.ts";
import type { ConvertResult } from "../../convert/convert.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { displayName } from "../../remote/location.ts";
import { openModel } from "../../safetensors/reader.ts";
import { type SideFileRules, writeSideFile } from "../../safetensors/side_file.ts";
import process from "node:process";
import type { PlainRows } from "../../convert/plain_rows.ts";
import type { ConvertIo } from "../request.ts";
import { shownLine } from "../shown_text.ts";
import { versionLine } from "../version.ts";
import { codeHistograms } from "./code_histogram.ts";
import { conversionReport, type ReportJson } from "./report_data.ts";

/** Most histograms of one page: each is a chart that the browser draws at once. */
const MOST_HISTOGRAMS = 48;

/** Whether `path` names a page, not JSON. */
export function isPage(path: string): boolean {
  return /\.html?$/i.test(path);
}

/** The facts of a report beside the result and the options. */
export interface ReportContext {
  readonly io: ConvertIo;
  readonly options: ConvertOptions;
  readonly method: string;
  readonly plain: PlainRows | null;
  /** Files that it must not replace. */
  readonly rules: SideFileRules;
}

/**
 * Writes the report to `io.reportPath`, if there is one.
 *
 * @throws UnsupportedError if `--report-layers` matches no quantized layer.
 */
export async function writeReport(
  result: ConvertResult,
  { io, options, method, plain, rules }: ReportContext,
): Promise<void> {
  const { reportPath: path } = io;
  if (path === null) return;
  const { calibrationPath, calibrationLora } = options;
  const report = conversionReport(result, {
    input: displayName(io.input),
    // Addresses may hold secrets.
    command: process.argv.slice(2).map(shownLine),
    method: method.replace(/^method: /, ""),
    calibration: [calibrationPath, calibrationLora].filter((each) => each !== null).join(", ") ||
      null,
    thresholdDb: io.qualityThreshold,
    plain,
    program: versionLine(),
    created: new Date(),
  });
  const shown = io.reportLayers === null ? null : matching(result, io.reportLayers);
  await writeReportFile(path, report, { shown, rules });
}

/**
 * Writes `report` as JSON or as a page, whichever `path` names.
 *
 * @param shown the layers whose codes a page shows; null: the worst ones.
 */
export async function writeReportFile(
  path: string,
  report: ReportJson,
  { shown, rules }: { readonly shown: readonly string[] | null; readonly rules: SideFileRules },
): Promise<void> {
  if (!isPage(path)) {
    await writeSideFile(path, `${JSON.stringify(report, null, 2)}\n`, rules);
    return;
  }
  // Charts are about 50 kB of script that no other run needs.
  const { htmlReport, shownByDefault } = await import(
    later("./html.ts")
  ) as typeof import("./html.ts");
  const names = shown ?? shownByDefault(report);
  const model = openModel(report.output);
  const histograms = codeHistograms(model, names.slice(0, MOST_HISTOGRAMS));
  await writeSideFile(path, htmlReport(report, histograms), rules);
}

function matching(result: ConvertResult, source: string): string[] {
  const pattern = compileLayerPattern(source, { place: "--report-layers" });
  const names = result.layers.map(({ name }) => name).filter((name) =>
    pattern.test(layerName(name))
  );
  if (names.length > 0) return names;
  throw new UnsupportedError(
    `Cannot show the layers of --report-layers ${
      JSON.stringify(source)
    }: no quantized layer matches`,
  );
}
