/** `quantsmith edit FILE [DST]`, and `--edit-quant`: markers, metadata and tensors of a quantized file. */

import { compileLayerPattern } from "../../config/layer_pattern.ts";
import { UsageError } from "../../core/errors.ts";
import { applyOperations, type EditedModel, editedSource } from "../../edit/operation.ts";
import { parseAddKeys, parseKeyList } from "../../edit/parse_keys.ts";
import { type EditOptions, planEdit } from "../../edit/plan_edit.ts";
import { headerProblems } from "../../verify/verify.ts";
import type { Problem } from "../../formats/problem.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { findQuantizedLayers, type ReadBytes } from "../../formats/quant_layers.ts";
import { TensorReader } from "../../safetensors/reader.ts";
import type { CommandContext } from "../context.ts";
import { editFiles, operationLines, operationsJson, writeWithProgress } from "../edit_run.ts";
import { verbosityOf } from "../files.ts";
import { flagByName } from "../flags/table.ts";
import { formatBytes, visible } from "../format.ts";
import { createLog } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";

/** Number of new problems that are listed. */
const LISTED_PROBLEMS = 8;

/** Runs the command; returns the exit code. */
export async function editCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const options = editOptions(parsed);
  const log = createLog(verbosityOf(parsed), context);
  for (const warning of idleFlags(parsed)) log.warn(warning);
  const files = await editFiles(parsed, "edited");
  using input = await openFor(files.input, { context, log, output: files.output });
  const source = input.model;
  using reader = new TensorReader(source);
  const readBytes: ReadBytes = (tensor) => reader.read(tensor);
  const { operations, selected, notes } = planEdit(source, options, readBytes);
  for (const note of notes) log.warn(note);
  const edited = applyOperations(source, operations);
  const problems = newProblems(edited, readBytes);
  const json = parsed.bool("json");
  if (files.isDryRun) {
    if (json) context.stdout(JSON.stringify(dryRunJson(edited, { problems, selected })));
    else for (const line of dryRunLines(edited, selected)) context.stdout(line);
  }
  for (const { layer, rule, effect } of problems.slice(0, LISTED_PROBLEMS)) {
    log.warn(visible(`afterwards in stock ComfyUI, ${layer || "the file"}: ${rule}: ${effect}`));
  }
  if (problems.length > LISTED_PROBLEMS) {
    log.warn(`and ${problems.length - LISTED_PROBLEMS} more; \`quantsmith verify\` lists all`);
  }
  if (files.isDryRun) return 0;
  if (operations.length === 0) {
    log.info(`nothing to change in ${source.path}: no file was written`);
    if (json) context.stdout(JSON.stringify({ event: "done", output: null, changes: 0 }));
    return 0;
  }
  for (const line of operationLines(operations)) log.info(line);
  const facts = { changes: operations.length, selected, problems };
  await writeWithProgress(edited, { parsed, context, log, files, facts });
  return 0;
}

function editOptions(parsed: Parsed): EditOptions {
  const remove = parsed.string("remove-keys");
  const add = parsed.string("add-keys");
  const filter = parsed.string("quant-filter");
  if (parsed.has("comfy_quant") && !parsed.bool("comfy_quant")) {
    throw new UsageError(
      "Cannot use --no-comfy-quant to edit: `--remove-keys .comfy_quant` removes the markers",
    );
  }
  return {
    removeKeys: remove === null ? [] : parseKeyList(remove),
    addKeys: add === null ? new Map() : parseAddKeys(add),
    filter: filter === null ? null : compileLayerPattern(filter, { place: "--quant-filter" }),
    metadata: parsed.has("save-quant-metadata") ? parsed.bool("save-quant-metadata") : null,
    markers: parsed.bool("comfy_quant"),
  };
}

/** Flags of a conversion that change nothing beside `--edit-quant`. */
function idleFlags(parsed: Parsed): string[] {
  const idle = [...parsed.given].filter((name) => {
    const isTaken = name === "edit-quant" || flagByName(name).commands.includes("edit");
    return parsed.command === "convert" && !isTaken;
  });
  if (idle.length === 0) return [];
  const verb = idle.length === 1 ? "has" : "have";
  return [`${idle.map((name) => `--${name}`).join(", ")} ${verb} no effect with --edit-quant`];
}

/** New problems that the edited file gives stock ComfyUI. */
function newProblems(edited: EditedModel, readBytes: ReadBytes): Problem[] {
  const problemsOf = (source: ModelSource, read: ReadBytes) =>
    headerProblems(source, findQuantizedLayers(source, read), read);
  const key = ({ layer, rule, detail }: Problem) => JSON.stringify([layer, rule, detail]);
  const known = new Set(problemsOf(edited.source, readBytes).map(key));
  const after = editedSource(edited, readBytes);
  return problemsOf(after.source, after.readBytes).filter((problem) => !known.has(key(problem)));
}

function dryRunJson(
  { source, operations, outputs, totalBytes }: EditedModel,
  { problems, selected }: { problems: readonly Problem[]; selected: number },
): Record<string, unknown> {
  return {
    selected,
    changes: operationsJson(operations),
    totals: {
      tensors: outputs.length,
      input_bytes: source.inputBytes,
      output_bytes: totalBytes,
    },
    problems,
  };
}

function dryRunLines(
  { source, operations, outputs, totalBytes }: EditedModel,
  selected: number,
): string[] {
  return [
    `layers    ${selected} selected`,
    `tensors   ${source.tensors.length} -> ${outputs.length}`,
    `size      ${formatBytes(source.inputBytes)} -> ${formatBytes(totalBytes)}`,
    ...(operations.length === 0 ? ["nothing to change"] : operationLines(operations)),
  ];
}
