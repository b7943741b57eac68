/**
 * `quantsmith batch FILE... | -d DIR`: many models, one after the other, with one pool of workers. One
 * that fails does not stop the others; the exit code shows that one did.
 */

import { statSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline/promises";
import { InterruptedError, UsageError } from "../../core/errors.ts";
import { PoolKeeper } from "../../run/workers/pool_keeper.ts";
import { batchFiles } from "../batch_files.ts";
import { batchLoras } from "../batch_loras.ts";
import { type BatchItem, planBatch } from "../batch_plan.ts";
import { batchTable, countOutcomes, type FileOutcome } from "../batch_table.ts";
import type { CommandContext } from "../context.ts";
import { EventWriter } from "../events.ts";
import { verbosityOf } from "../files.ts";
import { formatBytes, visible } from "../format.ts";
import { GpuKeeper } from "../device.ts";
import { createLog, type Log } from "../log.ts";
import { askedConversion, partOf } from "../options.ts";
import { filesOfPart } from "../batch_part.ts";
import type { Parsed } from "../parse.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import type { AskedConversion } from "../request.ts";
import { nameFacts } from "../output_name.ts";
import { runConversion } from "./convert.ts";

/** Runs the subcommand; returns the exit code: 0, or 1 if a model failed. */
export async function batchCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const events = parsed.bool("json") ? new EventWriter(context.stdout) : null;
  const log = createLog(verbosityOf(parsed), {
    stderr: context.stderr,
    onWarning: (message) => events?.warning(message),
  });
  const items = await planOf(parsed, log);
  const isDry = parsed.bool("dry-run-batch");
  if (events !== null) events.batch({ dry_run: isDry, files: items.map(itemJson) });
  else for (const line of items.map(itemLine)) (isDry ? context.stdout : log.info)(line);
  if (isDry) return items.some(({ action }) => action === "fail") ? 1 : 0;
  const count = items.filter(({ action }) => action === "convert").length;
  if (count > 0 && !parsed.bool("yes")) {
    if (!await isConfirmed(count, context)) {
      log.info("nothing was done");
      return 0;
    }
  }
  const outcomes = await runItems(items, { context, log, events });
  events?.batchDone(countOutcomes(outcomes));
  if (events === null) { for (const line of batchTable(outcomes)) context.stdout(line); }
  if (context.signal.aborted) {
    throw new InterruptedError(
      "the models converted before are complete, the others were not written",
    );
  }
  return outcomes.some(({ outcome }) => outcome === "failed") ? 1 : 0;
}

/** Reads the command line and the headers; nothing is written. */
async function planOf(parsed: Parsed, log: Log): Promise<BatchItem[]> {
  const outputDir = parsed.string("output-dir");
  if (outputDir !== null && !statSync(outputDir, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(
      `Cannot write to --output-dir ${JSON.stringify(outputDir)}: no such folder`,
    );
  }
  // Contradictions are reported before problems of single files.
  const check = askedConversion(conversionOf(parsed, "model.safetensors", null));
  const all = batchFiles(parsed);
  const { part, partNote } = partOf(parsed);
  if (partNote !== null) log.warn(partNote);
  if (part !== null && part.count > all.length) {
    throw new UsageError(
      `Cannot split ${all.length} models into ${part.count} parts: N is at most ${all.length}`,
    );
  }
  const files = part === null ? all : filesOfPart(all, part);
  const loras = batchLoras(parsed, files);
  for (const note of loras.notes) log.warn(note);
  const mergedOf = (input: string) => loras.byModel?.get(input) ?? null;
  const requestOf = (input: string): AskedConversion => {
    const request = askedConversion(conversionOf(parsed, input, loras.byModel && mergedOf(input)));
    for (const warning of request.warnings) log.warn(warning);
    return request;
  };
  return await planBatch(files, {
    lorasOf: (input) => mergedOf(input) ?? check.options.merge?.paths ?? [],
    requestOf,
    outputDir,
    nameFacts,
  });
}

/**
 * The command line of one model's conversion.
 *
 * @param loras those of this model; null: as the command line says for all.
 */
function conversionOf(parsed: Parsed, input: string, loras: readonly string[] | null): Parsed {
  const own = Object.fromEntries(BATCH_FLAGS.map((name) => [name, null]));
  // Flags that scale and dampen LoRAs are not idle if other models of the batch have some.
  const merge = loras === null
    ? {}
    : loras.length === 0
    ? { "merge-lora-scale": null, "merge-lora-dampen": null }
    : loras.length === 1
    ? { "merge-loras": loras, "merge-lora-dampen": null }
    : { "merge-loras": loras };
  // The array of jobs shares out models here, not layers.
  return parsed.as("convert", { ...own, ...merge, input, part: "none" });
}

const BATCH_FLAGS = [
  "inputs",
  "directory",
  "pattern",
  "output-dir",
  "lora-mapping",
  "lora-dir",
  "dry-run-batch",
  "yes",
  "part",
] as const;

async function isConfirmed(count: number, context: CommandContext): Promise<boolean> {
  if (!process.stdin.isTTY || !context.stderrIsTTY) {
    throw new UsageError(
      "Cannot ask whether to proceed: there is no terminal; -y proceeds without asking",
    );
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const models = `${count} ${count === 1 ? "model" : "models"}`;
    const answer = await terminal.question(`Convert ${models}? (y/N) `, { signal: context.signal });
    return /^y(es)?$/i.test(answer.trim());
  } catch (error) {
    if (context.signal.aborted) throw new InterruptedError();
    throw error;
  } finally {
    terminal.close();
  }
}

async function runItems(
  items: readonly BatchItem[],
  { context, log, events }: {
    context: CommandContext;
    log: Log;
    events: EventWriter | null;
  },
): Promise<FileOutcome[]> {
  using pools = new PoolKeeper(context.workerUrl);
  using gpus = new GpuKeeper();
  const outcomes: FileOutcome[] = [];
  for (const [index, item] of items.entries()) {
    log.info(`[${index + 1}/${items.length}] ${visible(item.input)}`);
    const outcome = context.signal.aborted
      ? { ...nothingOf(item), outcome: "not begun" as const }
      : await runItem(item, { context, log, pools, gpus });
    if (outcome.outcome === "failed" && events !== null) log.warn(outcome.reason!);
    else if (outcome.outcome === "failed") context.stderr(`error: ${visible(outcome.reason!)}`);
    if (outcome.outcome === "skipped") log.info(`skipped: ${outcome.reason}`);
    events?.file(outcomeJson(outcome));
    outcomes.push(outcome);
  }
  return outcomes;
}

async function runItem(
  item: BatchItem,
  { context, log, pools, gpus }: {
    context: CommandContext;
    log: Log;
    pools: PoolKeeper;
    gpus: GpuKeeper;
  },
): Promise<FileOutcome> {
  const nothing = nothingOf(item);
  if (item.action === "skip") return { ...nothing, outcome: "skipped", reason: item.reason };
  if (item.action === "fail") {
    return { ...nothing, outcome: "failed", reason: item.error.message };
  }
  const { options, io, warningsOnCpu } = item.request;
  try {
    const { code, result } = await runConversion({
      options,
      io: { ...io, output: item.output },
      warningsOnCpu,
      context,
      log,
      pools,
      gpus,
    });
    return {
      input: item.input,
      outcome: code === 0 ? "converted" : "failed",
      output: result.output,
      reason: code === 0 ? null : "the output was written, and a check that was asked for failed",
      outputBytes: result.plan.totals.outputBytes,
      sqnrDb: overallErrors(result.layers)?.sqnrDb ?? null,
      elapsedMs: result.elapsedMs,
    };
  } catch (error) {
    // Workers of a run that failed may be in any state.
    pools.drop();
    if (error instanceof InterruptedError) return { ...nothing, outcome: "interrupted" };
    if (error instanceof Error) return { ...nothing, outcome: "failed", reason: error.message };
    throw error;
  }
}

function nothingOf({ input }: BatchItem): FileOutcome {
  return {
    input,
    outcome: "not begun",
    output: null,
    reason: null,
    outputBytes: null,
    sqnrDb: null,
    elapsedMs: null,
  };
}

function itemLine(item: BatchItem): string {
  const loras = item.loras.map((path) => ` + ${path}`).join("");
  const what = item.action === "convert"
    ? `convert ${item.input}${loras} -> ${item.output} (${item.totals.quantize} quantized, ${
      formatBytes(item.totals.inputBytes)
    } -> ${formatBytes(item.totals.outputBytes)})`
    : item.action === "skip"
    ? `skip ${item.input}: ${item.reason}`
    : `fail ${item.input}: ${item.error.message}`;
  return visible(what);
}

function itemJson(item: BatchItem): Record<string, unknown> {
  return {
    input: item.input,
    action: item.action,
    loras: item.loras,
    output: item.action === "convert" ? item.output : null,
    reason: item.action === "skip"
      ? item.reason
      : item.action === "fail"
      ? item.error.message
      : null,
    output_bytes: item.action === "convert" ? item.totals.outputBytes : null,
  };
}

function outcomeJson(file: FileOutcome): Record<string, unknown> {
  return {
    input: file.input,
    outcome: file.outcome.replace(" ", "_"),
    output: file.output,
    reason: file.reason,
    output_bytes: file.outputBytes,
    sqnr_db: file.sqnrDb,
    elapsed_ms: file.elapsedMs === null ? null : Math.round(file.elapsedMs),
  };
}
