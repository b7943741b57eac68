/** Reads what `--report FILE.json` wrote. */

import { readSmallFile } from "../../safetensors/small_file.ts";
import { any, array, looseObject, minValue, nullable, number, parse, pipe, string } from "valibot";
import { UsageError } from "../../core/errors.ts";
import { REPORT_VERSION, type ReportJson } from "./report_data.ts";

/** The fields of a report that a comparison uses; the rest is not checked. */
const REPORT = looseObject({
  report_version: pipe(number(), minValue(1)),
  output: string(),
  input: string(),
  output_bytes: number(),
  verdict: nullable(looseObject({ grade: string(), measure: string(), error: number() })),
  layers: array(looseObject({
    name: string(),
    errors: looseObject({ relative_error: number(), sqnr_db: nullable(number()) }),
    output: nullable(any()),
  })),
});

/**
 * Returns the report in the file `path`.
 *
 * @throws UsageError if the file is no report of this version; what `node:fs` throws if it cannot be read.
 */
export function readReport(path: string): ReportJson {
  const shown = JSON.stringify(path);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(readSmallFile(path)));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`Cannot read ${shown}: it is not JSON; \`--report FILE.json\` writes it`, {
      cause: error,
    });
  }
  let report: ReportJson;
  try {
    report = parse(REPORT, value) as unknown as ReportJson;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(
      `Cannot read ${shown}: it is not the report of a conversion (${why}); \`--report FILE.json\` ` +
        "writes one",
      { cause: error },
    );
  }
  if (report.report_version > REPORT_VERSION) {
    throw new UsageError(
      `Cannot read ${shown}: its report_version is ${report.report_version}, this program knows ` +
        `${REPORT_VERSION}: install a newer quantsmith`,
    );
  }
  return report;
}
