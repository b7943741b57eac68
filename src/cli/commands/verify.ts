/** `quantsmith verify FILE [--source SRC]`: does it load in stock ComfyUI, and is it its source. */

import { FormatError, UsageError } from "../../core/errors.ts";
import { verifyModel, type VerifyOptions, type VerifyReport } from "../../verify/verify.ts";
import { type Calibration, openCalibration } from "../../calibration/calibration.ts";
import { matchCalibration } from "../../calibration/calibration_match.ts";
import { measureAgainstSource } from "../../verify/measure_against_source.ts";
import type { Holdout } from "../../calibration/layer_inputs.ts";
import { worstFirst } from "../../convert/output_errors.ts";
import { plainRows } from "../../convert/plain_rows.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { type SourceReport, verifyAgainstSource } from "../../verify/verify_source.ts";
import { WorkerPool } from "../../run/workers/worker_pool.ts";
import type { OpenInput } from "../../run/workers/remote_input.ts";
import { DEFAULT_CONVERT_OPTIONS, RUN_DEFAULTS } from "../../plan/options.ts";
import { displayName } from "../../remote/location.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import { type OpenFor, openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";
import { poolSize } from "../pool_size.ts";
import { createProgress } from "../progress.ts";
import { type Verified, verifiedJson, verifiedLines } from "../verify_report.ts";

/** Runs the subcommand; returns the exit code: 1 if the file does not work or is not its source. */
export async function verifyCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const { input } = filesOf(parsed);
  const thresholdDb = parsed.number("quality-threshold") ?? RUN_DEFAULTS.qualityThresholdDb;
  for (const name of ["quality-threshold", "strict"]) {
    if (parsed.has(name) && !parsed.has("source")) {
      context.stderr(`warning: --${name} has no effect without --source`);
    }
  }
  const verified = await verify(input, parsed, context);
  if (parsed.bool("json")) context.stdout(JSON.stringify(verifiedJson(verified)));
  else for (const line of verifiedLines(verified, { thresholdDb })) context.stdout(line);
  const { report, comparison } = verified;
  const isLow = parsed.bool("strict") &&
    comparison?.layers.some(({ errors }) => errors.sqnrDb !== null && errors.sqnrDb < thresholdDb);
  return report.loads && comparison?.matches !== false && isLow !== true ? 0 : 1;
}

async function verify(
  input: string,
  parsed: Parsed,
  context: CommandContext,
): Promise<Verified> {
  const sourcePath = parsed.string("source"), calibrationPath = parsed.string("calibration-data");
  if (sourcePath === null && calibrationPath !== null) {
    throw new UsageError(
      "Cannot use --calibration-data without --source: errors of outputs are those against the source",
    );
  }
  const log = createLog(verbosityOf(parsed), context);
  using sourceInput = sourcePath === null
    ? null
    // The one run compares, the other measures outputs.
    : await openFor(sourcePath, { context, log, keep: calibrationPath !== null });
  const source = sourceInput?.model ?? null;
  // The one run looks at values, the other compares.
  using storedInput = await openOrReport(input, { context, log, keep: source !== null });
  const path = displayName(input);
  if ("loads" in storedInput) {
    return { path, report: storedInput.loads, comparison: null };
  }
  const stored = storedInput.model;
  using pool = new WorkerPool(
    context.workerUrl,
    poolSize(parsed, source === null ? [stored] : [stored, source]),
  );
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !parsed.bool("json") &&
      verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  const onProgress = (now: Parameters<typeof progress.update>[0]) => progress.update(now);
  const options = { signal: context.signal, onProgress };
  const calibration = calibrationPath === null ? null : openCalibration(calibrationPath);
  const notes = calibration === null || source === null
    ? []
    : matchCalibration(calibration, source.tensors);
  for (const note of notes) context.stderr(`warning: ${note}`);
  try {
    const report = await verifyModel(stored, pool, options);
    if (source === null) return { path, report, comparison: null };
    const run = { pool, ...options };
    const comparison = await verifyAgainstSource(stored, source, run);
    if (calibration === null) return { path, report, comparison };
    const holdout = parsed.number("calibration-holdout") ??
      DEFAULT_CONVERT_OPTIONS.calibrationHoldout;
    return {
      ...{ path, report },
      ...await withOutputs(comparison, { stored, source, calibration, holdout, run }),
    };
  } finally {
    progress.stop();
  }
}

/** The comparison with errors of outputs, and what plain rows and the default without data would have given. */
async function withOutputs(
  comparison: SourceReport,
  { stored, source, calibration, holdout, run }: {
    readonly stored: ModelSource;
    readonly source: ModelSource;
    readonly calibration: Calibration;
    readonly holdout: Holdout;
    readonly run: { readonly pool: WorkerPool } & VerifyOptions;
  },
): Promise<Pick<Verified, "comparison" | "plain">> {
  const names = comparison.layers.map(({ name }) => name);
  const outputs = await measureAgainstSource(stored, source, {
    ...{ names, calibration, holdout },
    ...run,
  });
  const layers = comparison.layers.map((layer) => ({
    ...layer,
    output: outputs.get(layer.name) ?? null,
  }));
  const plain = plainRows(source, layers, {
    ...{ merge: null, smoothAlpha: null, output: "int8", calibrationPath: calibration.path },
    calibrationHoldout: holdout,
  });
  return { comparison: { ...comparison, layers: worstFirst(layers) }, plain };
}

/** Opens a model; a file that breaks its format is an answer here, not a failure. */
async function openOrReport(
  path: string,
  options: OpenFor,
): Promise<OpenInput | { readonly loads: VerifyReport } & Disposable> {
  try {
    return await openFor(path, options);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    const report = {
      loads: false,
      problems: [{
        layer: error.tensor ?? "",
        rule: "file-format",
        effect: "fails at load: not a valid safetensors file",
        severity: "error",
        detail: error.rule,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      }],
      quantized: {},
      tensors: 0,
      checkedBytes: 0,
    } as const;
    return { loads: report, [Symbol.dispose]: () => {} };
  }
}
