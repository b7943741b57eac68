/** `quantsmith compare A B [--source SRC]`: which of two conversions is closer to the model. */

import { later } from "../../core/later.ts";
import { UsageError } from "../../core/errors.ts";
import { checkSideFile, writeSideFile } from "../../safetensors/side_file.ts";
import { compareReports, comparisonJson, comparisonLines } from "../compare.ts";
import type { CommandContext } from "../context.ts";
import { verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import type { Parsed } from "../parse.ts";
import { isPage } from "../report/write_report.ts";
import { measuredReport } from "../report/measured_report.ts";
import { readReport } from "../report/read_report.ts";
import type { ReportJson } from "../report/report_data.ts";

/**
 * Runs the subcommand; returns the exit code.
 *
 * @throws UsageError if there are not two files, or models without `--source`.
 */
export async function compareCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const [a, b, ...rest] = parsed.positionals;
  if (a === undefined || b === undefined || rest.length > 0) {
    throw new UsageError(
      `Cannot compare ${parsed.positionals.length} files: \`quantsmith compare A.json B.json\` takes ` +
        "two reports, `quantsmith compare A B --source SRC` two models",
    );
  }
  const reportPath = parsed.string("report");
  const rules = { force: parsed.bool("force"), inputs: [a, b], outputs: [] };
  if (reportPath !== null) checkSideFile(reportPath, rules);
  const log = createLog(verbosityOf(parsed), context);
  const [ofA, ofB] = [await reportOf(a), await reportOf(b)];
  const comparison = compareReports(ofA, ofB);
  if (comparison.layers.length > 0 && comparison.ratio === null) {
    log.warn("the files have no quantized layer in common: are they of the same model?");
  }
  if (parsed.bool("json")) context.stdout(JSON.stringify(comparisonJson(comparison)));
  else for (const line of comparisonLines(comparison)) context.stdout(line);
  if (reportPath !== null) {
    const { comparePage } = await import(
      later("../report/compare_page.ts")
    ) as typeof import("../report/compare_page.ts");
    const text = isPage(reportPath)
      ? comparePage(comparison)
      : `${JSON.stringify(comparisonJson(comparison), null, 2)}\n`;
    await writeSideFile(reportPath, text, rules);
  }
  return 0;

  async function reportOf(path: string): Promise<ReportJson> {
    if (/\.json$/i.test(path) && !/\.index\.json$/i.test(path)) return readReport(path);
    return await measuredReport(path, { parsed, context, log });
  }
}
