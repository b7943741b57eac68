/** A report of a file that exists already, measured against its source. */

import { UnsupportedError, UsageError } from "../../core/errors.ts";
import { overallOutput } from "../../convert/output_errors.ts";
import { detect } from "../../presets/detect.ts";
import { explain } from "../../presets/explain.ts";
import { displayName } from "../../remote/location.ts";
import { WorkerPool } from "../../run/workers/worker_pool.ts";
import { type SourceReport, verifyAgainstSource } from "../../verify/verify_source.ts";
import type { CommandContext } from "../context.ts";
import { errorsJson } from "../errors_json.ts";
import { verbosityOf } from "../files.ts";
import type { Log } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";
import { poolSize } from "../pool_size.ts";
import { createProgress } from "../progress.ts";
import { verdictJson, verdictOf, worstBy } from "../verdict.ts";
import { versionLine } from "../version.ts";
import { REPORT_VERSION, type ReportJson, sharesOf } from "./report_data.ts";

/** The parts of the command that measuring needs. */
export interface MeasureContext {
  readonly parsed: Parsed;
  readonly context: CommandContext;
  readonly log: Log;
}

/**
 * Returns the report of the quantized file `path`, measured against `--source`.
 *
 * @throws UsageError without `--source`; UnsupportedError if the file has no quantized layer of the source.
 */
export async function measuredReport(
  path: string,
  { parsed, context, log }: MeasureContext,
): Promise<ReportJson> {
  const sourcePath = sourceOf(path, parsed);
  const started = performance.now();
  using source = await openFor(sourcePath, { context, log });
  using stored = await openFor(path, { context, log });
  using pool = new WorkerPool(
    context.workerUrl,
    poolSize(parsed, [stored.model, source.model]),
  );
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !parsed.bool("json") &&
      verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  try {
    const { layers, overall } = await verifyAgainstSource(stored.model, source.model, {
      pool,
      signal: context.signal,
      onProgress: (now) => progress.update(now),
    });
    const verdict = verdictOf(layers);
    if (verdict === null || overall === null) {
      throw new UnsupportedError(
        `Cannot compare ${JSON.stringify(path)}: it has no quantized layer of ${
          JSON.stringify(sourcePath)
        }`,
      );
    }
    return {
      report_version: REPORT_VERSION,
      program: versionLine(),
      created: new Date().toISOString(),
      command: [],
      input: displayName(sourcePath),
      output: displayName(path),
      model: explain(detect(source.model.tensors)),
      method: "measured against the source",
      calibration: null,
      next_step: "",
      input_bytes: source.model.inputBytes,
      output_bytes: stored.model.inputBytes,
      elapsed_ms: Math.round(performance.now() - started),
      workers: pool.size,
      gpu: null,
      threshold_db: 0,
      verdict: verdictJson(verdict, null),
      overall: errorsJson(overall),
      overall_output: overallOutput(layers),
      layers: measuredLayers(layers),
      kept: [],
      plan: null,
    };
  } finally {
    progress.stop();
  }
}

/** The model that the file was made from. */
function sourceOf(path: string, parsed: Parsed): string {
  const source = parsed.string("source");
  if (source !== null) return source;
  throw new UsageError(
    `Cannot compare ${JSON.stringify(path)} without --source: errors are those against the source`,
  );
}

/** The layers, the worst first. Their format and how they are stored is not in a measured report. */
function measuredLayers(layers: SourceReport["layers"]): ReportJson["layers"] {
  const shares = sharesOf(layers.map((layer) => ({ ...layer, output: null })), "weights");
  return worstBy(layers, "weights").map(({ name, shape, errors }) => ({
    name,
    shape,
    format: null,
    stored: "",
    errors: errorsJson(errors),
    output: null,
    share: shares.get(name)!,
  }));
}
