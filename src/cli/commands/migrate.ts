/** `quantsmith migrate FILE [DST]`: a quantized file as stock ComfyUI loads it, in another format if asked for. */

import { UsageError } from "../../core/errors.ts";
import { type MigrationPlan, planMigration } from "../../edit/plan_migration.ts";
import { shapesIn } from "../../formats/stored_matrix.ts";
import type { WeightOutput } from "../../formats/outputs.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { resolveOptions } from "../../plan/resolve_options.ts";
import { TensorReader } from "../../safetensors/reader.ts";
import type { CommandContext } from "../context.ts";
import { editFiles, operationLines, operationsJson, writeWithProgress } from "../edit_run.ts";
import { verbosityOf } from "../files.ts";
import { formatBytes } from "../format.ts";
import { createLog } from "../log.ts";
import { flagNames } from "../option_flags.ts";
import { type OpenFor, openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";
import { overallErrors } from "../../run/layer_statistics.ts";
import { qualityTable, sqnrPhrase } from "../quality_table.ts";

/** Runs the subcommand; returns the exit code. */
export async function migrateCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const log = createLog(verbosityOf(parsed), context);
  const files = await editFiles(parsed, "migrated");
  const json = parsed.bool("json");
  using input = await openFor(files.input, { context, log, output: files.output });
  const source = input.model;
  using reader = new TensorReader(source);
  const plan = planMigration(source, (tensor) => reader.read(tensor), {
    shapes: await shapesOf(parsed.string("source"), { context, log }),
    asked: askedFormat(parsed),
  });
  const { edited, requantized, notes } = plan;
  for (const note of notes) log.warn(note);
  if (files.isDryRun) {
    if (json) context.stdout(JSON.stringify(dryRunJson(plan)));
    else for (const line of dryRunLines(plan)) context.stdout(line);
    return 0;
  }
  if (edited.operations.length === 0) {
    const isAsked = parsed.has("format")
      ? `is in ${parsed.string("format")} as far as it can be, and `
      : "";
    log.info(`${source.path} ${isAsked}loads in stock ComfyUI as it is: no file was written`);
    if (json) context.stdout(JSON.stringify({ event: "done", output: null, changes: 0 }));
    return 0;
  }
  log.info(summary(plan));
  for (const line of operationLines(edited.operations)) log.info(line);
  const layers = await writeWithProgress(edited, {
    parsed,
    context,
    log,
    files,
    matrices: requantized,
    facts: {
      changes: edited.operations.length,
      exact: plan.exact,
      requantized: requantized.size,
      untouched: plan.untouched,
    },
  });
  if (layers.length === 0) return 0;
  if (!json) {
    for (const line of qualityTable(layers, { thresholdDb: -Infinity })) context.stdout(line);
  }
  const overall = overallErrors(layers)!;
  log.info(
    `${layers.length} layers were rounded a second time, which adds a relative error of ${
      overall.relativeError.toExponential(2)
    } (SQNR ${sqnrPhrase(overall.sqnrDb)}) to that of the first; ` +
      "converting the original weights gives a better file",
  );
  return 0;
}

/**
 * The options with the format of `--format`; null: layers that load stay as they are.
 *
 * @throws UsageError if it is none, or flags need another one.
 */
function askedFormat(parsed: Parsed): ConvertOptions | null {
  const output = parsed.string("format") as WeightOutput | null;
  for (const [flag, outputs] of [["group-size", GROUPED], ["linear-dtype", ["w4a4"]]] as const) {
    if (!parsed.has(flag) || (outputs as readonly (string | null)[]).includes(output)) continue;
    throw new UsageError(
      `Cannot use --${flag} here: it belongs to --format ${outputs.join(" and ")}`,
    );
  }
  if (output === null) return null;
  if (output === "fp16") {
    throw new UsageError(
      "Cannot use --format fp16 here: `quantsmith dequantize FILE DST --output-dtype F16` writes it",
    );
  }
  return resolveOptions({
    output,
    groupSize: parsed.number("group-size") ?? undefined,
    linearDtype: (parsed.string("linear-dtype") ?? undefined) as "int4" | "int8" | undefined,
  }, { names: flagNames });
}

/** Formats with scales of groups. */
const GROUPED = ["w4a8", "w6a8"] as const;

/** The shapes of the model that a file was made from. */
async function shapesOf(
  path: string | null,
  options: OpenFor,
): Promise<ReadonlyMap<string, readonly number[]> | undefined> {
  if (path === null) return undefined;
  using input = await openFor(path, options);
  using reader = new TensorReader(input.model);
  return shapesIn(input.model, (tensor) => reader.read(tensor));
}

function summary({ exact, requantized, untouched }: MigrationPlan): string {
  return `${exact} layers put right exactly, ${requantized.size} to be rounded once more, ` +
    `${untouched} left as they are`;
}

function dryRunJson(plan: MigrationPlan): Record<string, unknown> {
  const { edited, exact, requantized, untouched } = plan;
  return {
    exact,
    requantized: requantized.size,
    untouched,
    changes: operationsJson(edited.operations),
    totals: {
      tensors: edited.outputs.length,
      input_bytes: edited.source.inputBytes,
      output_bytes: edited.totalBytes,
    },
  };
}

function dryRunLines(plan: MigrationPlan): string[] {
  const { edited } = plan;
  if (edited.operations.length === 0) return ["nothing to change: it loads in stock ComfyUI"];
  return [
    summary(plan),
    `size      ${formatBytes(edited.source.inputBytes)} -> ${formatBytes(edited.totalBytes)}`,
    ...operationLines(edited.operations),
  ];
}
