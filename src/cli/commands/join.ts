/** `quantsmith join FILE`: the output of a conversion from the parts that `--part I/N` wrote. */

import { UsageError } from "../../core/errors.ts";
import { overallOutput } from "../../convert/output_errors.ts";
import { joinParts } from "../../convert/parts/join.ts";
import { checkOutputNames } from "../../safetensors/output_set.ts";
import { checkSideFile, writeSideFile } from "../../safetensors/side_file.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import { createLog } from "../log.ts";
import type { Parsed } from "../parse.ts";
import { createProgress } from "../progress.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import { sqnrPhrase } from "../quality_table.ts";
import { compensatedJson, noteJson } from "../report_json.ts";
import { errorsJson, learnedJson } from "../errors_json.ts";

/** Runs the subcommand; returns the exit code. */
export async function joinCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const { input: output } = filesOf(parsed);
  const force = parsed.bool("force"), json = parsed.bool("json");
  const log = createLog(verbosityOf(parsed), context);
  checkOutputNames(output, 1, { force });
  const reportPath = reportPathOf(parsed), rules = { force, inputs: [], outputs: [output] };
  if (reportPath !== null) checkSideFile(reportPath, rules);
  const progress = await createProgress({
    enabled: parsed.bool("progress", true) && !json && verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  const started = performance.now();
  try {
    const { layers, ...result } = await joinParts({
      output,
      force,
      program: "quantsmith",
      signal: context.signal,
      onProgress: (doneBytes, totalBytes) =>
        progress.update({ doneBytes, totalBytes, current: "join" }),
    });
    progress.stop();
    const elapsedMs = performance.now() - started;
    const overall = overallErrors(layers);
    const report = {
      output: result.output,
      output_bytes: result.outputBytes,
      parts: result.parts,
      quality: overall === null ? null : errorsJson(overall),
      overall_output: overallOutput(layers),
      layers: layers.map((layer) => ({
        name: layer.name,
        shape: layer.shape,
        errors: errorsJson(layer.errors),
        ...noteJson(layer),
        output: layer.output,
        bias: layer.bias,
        ...compensatedJson(layer.compensated),
        ...(layer.learned === null ? {} : { learned: learnedJson(layer.learned) }),
      })),
      elapsed_ms: Math.round(elapsedMs),
    };
    if (reportPath !== null) {
      await writeSideFile(reportPath, `${JSON.stringify(report, null, 2)}\n`, rules);
    }
    if (json) context.stdout(JSON.stringify(report));
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

/** The report of all parts: what their manifests say of the layers. */
function reportPathOf(parsed: Parsed): string | null {
  const path = parsed.string("report");
  if (path === null || /\.json$/i.test(path)) return path;
  throw new UsageError(
    `Cannot write --report ${
      JSON.stringify(path)
    }: parts keep no plan for a page, so that join writes ` +
      "JSON; name it FILE.json",
  );
}
