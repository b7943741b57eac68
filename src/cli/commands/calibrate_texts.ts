/** `quantsmith calibrate SRC [DST] --texts FILE --tokenizer FILE`: real inputs of a text encoder's layers. */

import { calibrateByTexts, type CalibrationWork } from "../../convert/calibrate_texts.ts";
import { UsageError } from "../../core/errors.ts";
import { DEFAULT_CONVERT_OPTIONS, RUN_DEFAULTS } from "../../plan/options.ts";
import type { GivenOptions } from "../../plan/resolve_options.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { defaultWorkers } from "../../run/workers/default_workers.ts";
import type { CommandContext } from "../context.ts";
import { verbosityOf } from "../files.ts";
import { formatBytes, formatSeconds } from "../format.ts";
import type { Log } from "../log.ts";
import { flagNames } from "../option_flags.ts";
import type { Parsed } from "../parse.ts";
import { createProgress } from "../progress.ts";

/**
 * Returns the paths of texts and tokenizer; null: none are given.
 *
 * @throws UsageError if one is given and the other is not, or a flag that has nothing to do with texts.
 */
export function textFiles(
  parsed: Parsed,
  output: string,
): { readonly texts: string; readonly tokenizer: string } | null {
  const texts = parsed.string("texts"), tokenizer = parsed.string("tokenizer");
  if (texts === null && tokenizer === null) return null;
  if (texts === null) {
    throw new UsageError("Cannot use --tokenizer without --texts: name a file of texts, too");
  }
  if (tokenizer === null) {
    throw new UsageError(
      "Cannot use --texts without --tokenizer: name the tokenizer.json of the model, from its repository",
    );
  }
  if (parsed.has("calibration-lora")) {
    throw new UsageError(
      "Cannot use --calibration-lora with --texts: inputs are real then, and the LoRA steers the " +
        "conversion, `quantsmith MODEL --calibration-lora FILE`",
    );
  }
  if (!output.toLowerCase().endsWith(".safetensors")) {
    throw new UsageError(
      `Cannot write ${JSON.stringify(output)}: with --texts its name must end with .safetensors`,
    );
  }
  return { texts, tokenizer };
}

/** Runs the texts through `model`; returns the exit code. */
export async function calibrateTexts(
  parsed: Parsed,
  context: CommandContext,
  { model, output, texts, tokenizer, options, log }: {
    readonly model: ModelSource;
    readonly output: string;
    readonly texts: string;
    readonly tokenizer: string;
    readonly options: GivenOptions;
    readonly log: Log;
  },
): Promise<number> {
  const json = parsed.bool("json");
  const progress = createProgress({
    enabled: parsed.bool("progress", true) && !json && verbosityOf(parsed) !== "MINIMAL",
    context,
  });
  try {
    const result = await calibrateByTexts({
      ...{ input: model, output, texts, tokenizer, options },
      rows: parsed.number("calib_samples") ?? RUN_DEFAULTS.textRows,
      seed: parsed.number("manual_seed") ?? DEFAULT_CONVERT_OPTIONS.seed,
      force: parsed.bool("force"),
      names: flagNames,
      workerUrl: context.workerUrl,
      workers: parsed.bool("low-memory") ? 1 : parsed.number("workers") ?? defaultWorkers(),
      memoryLimitBytes: parsed.number("memory-limit"),
      onStart: (work) => announce(work, log),
      onProgress: (now) => progress.update(now),
      signal: context.signal,
    });
    progress.stop();
    if (json) context.stdout(JSON.stringify(summary(output, result)));
    log.info(
      `done: ${output}, ${formatBytes(result.outputBytes)} in ${
        formatSeconds(result.elapsedMs)
      }; ` +
        "use it with --calibration-data",
    );
    return 0;
  } finally {
    progress.stop();
  }
}

/** Says what is going to be done, and what it lacks. */
function announce(work: CalibrationWork, log: Log): void {
  for (const note of work.notes) log.warn(note);
  const { family, texts, tokens, layers, rows, operations } = work;
  log.info(
    `${family}: ${texts} texts with ${tokens} tokens, ${rows} rows of each of ${layers} layers, ` +
      `${(operations / 1e9).toFixed(1)} billion multiply-adds`,
  );
}

function summary(
  output: string,
  { family, texts, tokens, layers, rows, outputBytes, elapsedMs }: CalibrationWork & {
    readonly elapsedMs: number;
  },
) {
  return {
    ...{ output, family, texts, tokens, layers, rows },
    output_bytes: outputBytes,
    elapsed_ms: Math.round(elapsedMs),
  };
}
