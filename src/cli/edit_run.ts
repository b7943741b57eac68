/** The common parts of `edit` and `migrate`: the output's name, the dry run, writing with progress, the report. */

import { basename, dirname, join, resolve } from "node:path";
import { statSync } from "node:fs";
import { UsageError } from "../core/errors.ts";
import type { EditedModel, Operation } from "../edit/operation.ts";
import { type RequantizedLayer, writeEdited } from "../edit/write_edited.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { WorkerPool } from "../run/workers/worker_pool.ts";
import { checkOutput } from "../safetensors/leftovers.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { displayName, localNameOf } from "../remote/location.ts";
import type { CommandContext } from "./context.ts";
import { errorsJson } from "./errors_json.ts";
import { EventWriter } from "./events.ts";
import { filesOf, verbosityOf } from "./files.ts";
import { formatBytes, formatSeconds, visible } from "./format.ts";
import type { Log } from "./log.ts";
import type { Parsed } from "./parse.ts";
import { poolSize } from "./pool_size.ts";
import { createProgress } from "./progress.ts";
import { overallErrors } from "../run/layer_statistics.ts";

/** Operations of the same sentence are listed by name up to this many. */
const NAMED_PLACES = 4;

/** The files of a command and its flags about them. */
export interface EditFiles {
  readonly input: string;
  readonly output: string;
  readonly force: boolean;
  readonly isDryRun: boolean;
}

/**
 * Returns the files of `edit` or `migrate`; without a name the output is `model_<ending>.safetensors`
 * beside the input.
 *
 * @throws UsageError if the command line names no model; UnsupportedError if the output exists;
 *   Error if it cannot become a file.
 */
export async function editFiles(
  parsed: Parsed,
  ending: "edited" | "migrated",
): Promise<EditFiles> {
  const { input, output: named } = filesOf(parsed);
  const dryRun = parsed.string("dry-run");
  if (dryRun === "create-template") {
    throw new UsageError("Cannot use --dry-run create-template here: it plans a conversion");
  }
  const output = named ?? outputName(localNameOf(input), ending);
  const force = parsed.bool("force");
  if (dryRun === null) {
    // In this order: `--force` does not help if the output is the input.
    refuseSameFile(output, [input]);
    await checkOutput(output, { force });
  }
  return { input, output, force, isDryRun: dryRun !== null };
}

function outputName(input: string, ending: string): string {
  const isFolder = statSync(input, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const path = isFolder ? resolve(input) : input;
  const stem = basename(path).replace(/\.safetensors(\.index\.json)?$/, "");
  return join(dirname(path), `${stem}_${ending}.safetensors`);
}

/** The changes as lines of text: operations of the same sentence in one line. */
export function operationLines(operations: readonly Operation[]): string[] {
  const places = new Map<string, Set<string>>();
  for (const { place, detail } of operations) {
    const known = places.get(detail) ?? new Set();
    places.set(detail, known.add(place));
  }
  return [...places].map(([detail, set]) => {
    const names = [...set].filter((name) => name !== "");
    if (names.length === 0) return visible(`  ${detail}`);
    const shown = names.slice(0, NAMED_PLACES).join(", ");
    const more = names.length - NAMED_PLACES;
    const count = names.length === 1 ? "" : `${names.length} x `;
    return visible(`  ${count}${detail}: ${shown}${more > 0 ? ` and ${more} more` : ""}`);
  });
}

/** The changes for programs. */
export function operationsJson(operations: readonly Operation[]): Record<string, unknown>[] {
  return operations.map((operation) => ({
    kind: operation.kind,
    place: operation.place,
    detail: operation.detail,
    ...(operation.kind === "metadata" ? { key: operation.key } : { tensor: operation.tensor }),
  }));
}

/** Parameters of {@link writeWithProgress} beside the model. */
export interface WriteContext {
  readonly parsed: Parsed;
  readonly context: CommandContext;
  readonly log: Log;
  readonly files: EditFiles;
  /** How the weights that are rounded once more are read, by name. */
  readonly matrices?: ReadonlyMap<string, MatrixSource>;
  /** More for the `done` event. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Writes an edited model, telling how far it is, what was done and how fast. */
export async function writeWithProgress(
  edited: EditedModel,
  { parsed, context, log, files, matrices, facts = {} }: WriteContext,
): Promise<RequantizedLayer[]> {
  const started = performance.now();
  const json = parsed.bool("json");
  const events = json ? new EventWriter(context.stdout) : null;
  const { operations, totalBytes, source } = edited;
  events?.start({
    input: displayName(files.input),
    output: files.output,
    changes: operations.length,
    totals: { input_bytes: source.inputBytes, output_bytes: totalBytes },
  });
  for (const change of operationsJson(operations)) events?.change(change);
  using pool = new WorkerPool(context.workerUrl, poolSize(parsed, [source]));
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !json && verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  let layers: RequantizedLayer[];
  try {
    layers = await writeEdited(edited, {
      output: files.output,
      force: files.force,
      pool,
      ...(matrices === undefined ? {} : { matrixOf: ({ name }) => matrices.get(name)! }),
      signal: context.signal,
      onProgress: (now) => progress.update(now),
      onLayer: ({ name, shape, errors }) =>
        events?.tensor({ name, shape, errors: errorsJson(errors) }),
    });
  } finally {
    progress.stop();
  }
  const elapsedMs = performance.now() - started;
  const overall = overallErrors(layers);
  events?.done({
    output: files.output,
    ...facts,
    quality: overall === null ? null : errorsJson(overall),
    totals: { input_bytes: source.inputBytes, output_bytes: totalBytes },
    elapsed_ms: Math.round(elapsedMs),
  });
  const rate = formatBytes(1000 * totalBytes / Math.max(elapsedMs, 1));
  log.info(
    `done: ${files.output}, ${formatBytes(totalBytes)} in ${formatSeconds(elapsedMs)} (${rate}/s)`,
  );
  return layers;
}
