/** `--report FILE`: writes the report in the form that the file's name asks for. */

import { compileLayerPattern } from "../../config/layer_pattern.ts";
import { UnsupportedError } from "../../core/errors.ts";
import type { ConvertResult } from "../../convert/convert.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { displayName } from "../../remote/location.ts";
import { openModel } from "../../safetensors/reader.ts";
import { type SideFileRules, writeSideFile } from "../../safetensors/side_file.ts";
import { conversionReport } from "../report_json.ts";
import type { ConvertIo } from "../request.ts";
import { codeHistogram } from "./code_histogram.ts";

/** Most histograms of one page: each is a chart that the browser draws at once. */
const MOST_HISTOGRAMS = 48;

/** Whether `path` names a page, not JSON. */
export function isPage(path: string): boolean {
  return /\.html?$/i.test(path);
}

/**
 * Writes the report to `io.reportPath`, where there is one.
 *
 * @param method what the conversion said of its method.
 * @param rules what it must not replace.
 * @throws UnsupportedError where `--report-layers` matches no quantized layer.
 */
export async function writeReport(
  result: ConvertResult,
  { io, options, method, rules }: {
    io: ConvertIo;
    options: ConvertOptions;
    method: string;
    rules: SideFileRules;
  },
): Promise<void> {
  const { reportPath: path } = io;
  if (path === null) return;
  if (!isPage(path)) {
    writeSideFile(path, `${JSON.stringify(conversionReport(result), null, 2)}\n`, rules);
    return;
  }
  // Charts are some 50 kB of script that no other run needs.
  const { htmlReport, shownByDefault } = await import("./html.ts");
  const names = io.reportLayers === null
    ? shownByDefault(result)
    : matching(result, io.reportLayers);
  const model = openModel(result.output);
  const histograms = names.slice(0, MOST_HISTOGRAMS).flatMap((name) => {
    const counts = codeHistogram(model, name);
    return counts === null ? [] : [{ name, counts }];
  });
  const { calibrationPath, calibrationLora } = options;
  const page = htmlReport(result, {
    input: displayName(io.input),
    method,
    calibration: [calibrationPath, calibrationLora].filter((each) => each !== null).join(", ") ||
      null,
    thresholdDb: io.qualityThreshold,
    histograms,
  });
  writeSideFile(path, page, rules);
}

function matching(result: ConvertResult, source: string): string[] {
  const pattern = compileLayerPattern(source, { place: "--report-layers" });
  const names = result.layers.map(({ name }) => name).filter((name) =>
    pattern.test(name.replace(/\.weight$/, ""))
  );
  if (names.length > 0) return names;
  throw new UnsupportedError(
    `Cannot show the layers of --report-layers ${
      JSON.stringify(source)
    }: no quantized layer matches`,
  );
}
