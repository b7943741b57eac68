/** The end of a conversion: report, quality, verification, and the exit code. */

import type { ConvertResult, GpuShare, LayerResult } from "../../convert/convert.ts";
import { fallbackNotes, rowsNote } from "../../run/layer_notes.ts";
import { errorsJson } from "../errors_json.ts";
import type { EventWriter } from "../events.ts";
import { compensatedCount, methodOf } from "../method_line.ts";
import { overallOutput } from "../../convert/output_errors.ts";
import { closingLines } from "../closing.ts";
import { type PlainRows, plainRows } from "../../convert/plain_rows.ts";
import { FileError } from "../../safetensors/io_error.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import { qualityTable } from "../quality_table.ts";
import { verdictJson, verdictOf } from "../verdict.ts";
import { writeReport } from "../report/write_report.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { verifyOutput } from "../verify_output.ts";

import type { Log } from "../log.ts";
import { totalsJson } from "../plan_report.ts";
import { reportRules } from "./check_report.ts";
import type { ConversionRequest } from "./conversion_request.ts";

/**
 * Returns what `measure` does. The output is complete by now: a source that cannot be read any more costs the
 * comparison, not the run.
 */
export function baseline(
  measure: () => PlainRows | null,
  log: Pick<Log, "warn">,
): PlainRows | null {
  try {
    return measure();
  } catch (error) {
    if (!(error instanceof FileError || error instanceof RangeError)) throw error;
    log.warn(`plain rows were not measured for comparison: ${error.message}`);
    return null;
  }
}

/** Measures what plain rows would have given for `layers`; null if that cannot be said. */
export function plainRowsOf(
  layers: readonly LayerResult[],
  { source, options, log }: Pick<Finished, "source" | "options" | "log">,
): PlainRows | null {
  return baseline(() => plainRows(source, layers, options), log);
}

/** Ends a conversion: its report, its quality in words, its verification. Returns the exit code. */
export async function conclude(
  result: ConvertResult,
  request: Finished,
  { plain, events }: { readonly plain: PlainRows | null; readonly events: EventWriter | null },
): Promise<0 | 1> {
  const { io, log, options } = request;
  const fellBack = result.layers.filter(({ note }) => note?.kind === "fallback").length;
  const method = methodOf(result.plan, options, fellBack);
  if (result.part?.wasFinished) {
    const { index, count } = result.part;
    log.info(`part ${index} of ${count} was finished before: nothing is done`);
  }
  const rules = reportRules(io, { inputs: request.source.paths, outputs: request.outputs });
  await writeReport(result, { io, options, method, plain, rules });
  for (const note of fallbackNotes(result.layers)) log.warn(note);
  if (fellBack > 0 && fellBack === compensatedCount(result.plan) && io.output === null) {
    log.warn(
      `the name of ${result.output} was made before the work and claims a method that no layer got; ` +
        "rename it, or name the output",
    );
  }
  const low = result.layers.filter(({ errors }) =>
    errors.sqnrDb !== null && errors.sqnrDb < io.qualityThreshold
  );
  reportLayers(result, low, request);
  for (const line of closingLines(result, plain)) log.info(line);
  for (const line of replacedLines(result)) log.info(line);
  if (result.gpu !== null) log.verbose(gpuLine(result.gpu));
  const check = io.verify ? await verified(result, request) : null;
  for (const line of check?.lines ?? []) log.info(line);
  events?.done(doneJson(result, { plain, low, check }));
  if (check !== null && !(check.loads && check.matches)) return 1;
  return io.strict && low.length > 0 ? 1 : 0;
}

/** A request whose work is done. */
interface Finished extends ConversionRequest {
  readonly source: ModelSource;
  /** Names of the files that were written. */
  readonly outputs: readonly string[];
}

/** Reports what the layers have in common, those of low quality, and with `--report-quality` each. */
function reportLayers(
  { layers }: ConvertResult,
  low: readonly LayerResult[],
  { io, context, log }: ConversionRequest,
): void {
  const rows = rowsNote(layers);
  if (rows !== null) log.info(rows);
  if (io.reportQuality && !io.json) {
    const thresholdDb = io.qualityThreshold;
    const columns = context.stdoutIsTTY ? context.columns : Infinity;
    for (const line of qualityTable(layers, { thresholdDb, columns })) context.stdout(line);
    const corrected = layers.filter(({ bias }) => bias !== null && bias.factor > 0).length;
    if (corrected > 0) context.stdout(`biases corrected: ${corrected}`);
  }
  if ((io.reportQuality || io.strict) && low.length > 0) {
    log.warn(`${low.length} layers are below ${io.qualityThreshold} dB SQNR`);
  }
}

type Check = Awaited<ReturnType<typeof verifyOutput>>;

async function verified(
  { output, layers, workers }: ConvertResult,
  { options: { merge, smoothAlpha }, source, context }: Finished,
): Promise<Check> {
  const correctedBiases = new Set(
    layers.flatMap(({ bias }) => bias !== null && bias.factor > 0 ? [bias.name] : []),
  );
  // Merged and smoothed weights are not those of the source.
  const compared = merge === null && smoothAlpha === null ? source : null;
  return await verifyOutput(output, { source: compared, correctedBiases, context, workers });
}

/** The event `done`. */
function doneJson(
  result: ConvertResult,
  { plain, low, check }: {
    plain: PlainRows | null;
    low: readonly LayerResult[];
    check: Check | null;
  },
): Parameters<EventWriter["done"]>[0] {
  const overall = overallErrors(result.layers);
  return {
    output: result.output,
    totals: totalsJson(result.plan),
    quality: overall === null ? null : errorsJson(overall),
    output_error: overallOutput(result.layers),
    verdict: verdictJson(verdictOf(result.layers), plain),
    below_threshold: low.map(({ name }) => name),
    verified: check === null ? null : {
      loads: check.loads,
      matches: check.matches,
      problems: check.problems,
    },
    gpu: result.gpu,
    ...(result.part === null ? {} : {
      part: {
        index: result.part.index,
        count: result.part.count,
        manifest: result.part.manifest,
        was_finished: result.part.wasFinished,
      },
    }),
    ...(result.replaced.removed.length === 0 ? {} : { removed_shards: result.replaced.removed }),
    elapsed_ms: Math.round(result.elapsedMs),
  };
}

/** Lines about the shards of an output that was replaced. */
function replacedLines({ replaced: { removed, left } }: ConvertResult): string[] {
  const shards = (names: readonly string[]) =>
    names.length === 1
      ? `1 shard of the replaced output, ${names[0]}`
      : `${names.length} shards of the replaced output, ${names[0]} to ${names.at(-1)}`;
  return [
    ...(removed.length === 0 ? [] : [`removed: ${shards(removed)}`]),
    ...(left.length === 0
      ? []
      : [`not removed: ${shards(left.map(({ name }) => name))} (${left[0]!.why})`]),
  ];
}

function gpuLine({ adapter, operations, failure }: GpuShare): string {
  const rest = failure === null ? "" : "; the CPU did the rest, as it failed";
  return `${adapter} did ${operations} operations${rest}`;
}
