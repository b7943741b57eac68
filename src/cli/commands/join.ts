/** `quantsmith join FILE`: the output of a conversion from the parts that `--part I/N` wrote. */

import { joinParts } from "../../convert/parts/join.ts";
import { checkOutputNames } from "../../safetensors/output_set.ts";
import { checkSideFile } from "../../safetensors/side_file.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import { createLog } from "../log.ts";
import type { Parsed } from "../parse.ts";
import { createProgress } from "../progress.ts";
import { RUN_DEFAULTS } from "../../plan/options.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import { reportPathOf } from "../options.ts";
import { sqnrPhrase } from "../quality_table.ts";
import { joinedReport } from "../report/joined_report.ts";
import { writeReportFile } from "../report/write_report.ts";

/** Runs the subcommand; returns the exit code. */
export async function joinCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const { input: output } = filesOf(parsed);
  const force = parsed.bool("force"), json = parsed.bool("json");
  const log = createLog(verbosityOf(parsed), context);
  checkOutputNames(output, 1, { force });
  const reportPath = reportPathOf(parsed), rules = { force, inputs: [], outputs: [output] };
  if (reportPath !== null) checkSideFile(reportPath, rules);
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !json && verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  const started = performance.now();
  try {
    const result = await joinParts({
      output,
      force,
      program: "quantsmith",
      signal: context.signal,
      onProgress: (doneBytes, totalBytes) =>
        progress.update({ doneBytes, totalBytes, current: "join" }),
    });
    progress.stop();
    const elapsedMs = performance.now() - started;
    const thresholdDb = RUN_DEFAULTS.qualityThresholdDb;
    const report = joinedReport(result, { created: new Date(), elapsedMs, thresholdDb });
    if (reportPath !== null) await writeReportFile(reportPath, report, { shown: null, rules });
    if (json) context.stdout(JSON.stringify(report));
    const overall = overallErrors(result.layers);
    log.info(
      `done: ${result.output}, ${formatBytes(result.outputBytes)} of ${result.parts} parts in ` +
        `${formatSeconds(elapsedMs)}` +
        (overall === null ? "" : `, SQNR ${sqnrPhrase(overall.sqnrDb)} overall`),
    );
    return 0;
  } finally {
    progress.stop();
  }
}
