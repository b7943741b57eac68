/**
 * `quantsmith calibrate SRC [DST]`: calibration data, of texts that are run through a text encoder, or
 * statistics of synthetic inputs.
 */

import { basename, dirname, join } from "node:path";
import { calibrateModel } from "../../convert/calibrate.ts";
import { DEFAULT_CONVERT_OPTIONS, RUN_DEFAULTS, type Tier } from "../../plan/options.ts";
import type { GivenOptions } from "../../plan/resolve_options.ts";
import { flagNames } from "../option_flags.ts";
import { localNameOf } from "../../remote/location.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { createLog, type Log } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";
import { calibrateTexts, textFiles } from "./calibrate_texts.ts";

/** Runs the subcommand; returns the exit code. */
export async function calibrateCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const files = filesOf(parsed);
  const output = files.output ?? outputName(localNameOf(files.input));
  const log = createLog(verbosityOf(parsed), context);
  const texts = textFiles(parsed, output);
  if (texts === null) warnOfIdle(parsed, log);
  const lora = parsed.string("calibration-lora");
  using input = await openFor(files.input, { context, log, output });
  const options = optionsOf(parsed);
  if (texts !== null) {
    return await calibrateTexts(parsed, context, {
      ...{ model: input.model, output, options, log },
      ...texts,
    });
  }
  const result = await calibrateModel({
    input: input.model,
    output,
    samples: parsed.number("calib_samples") ?? RUN_DEFAULTS.calibrationSamples,
    seed: parsed.number("manual_seed") ?? DEFAULT_CONVERT_OPTIONS.seed,
    lora,
    force: parsed.bool("force"),
    options,
    names: flagNames,
    signal: context.signal,
  });
  for (const note of result.notes) log.warn(note);
  const steered = lora === null ? "" : `, ${result.steered} of them by the directions of the LoRA`;
  log.info(
    `${result.layers} layers${steered}; synthetic: ` +
      "scales for --static-activations and factors for --smoothquant, no substitute for real inputs",
  );
  log.info(`done: ${output}`);
  if (parsed.bool("json")) {
    context.stdout(JSON.stringify({ output, layers: result.layers, steered: result.steered }));
  }
  return 0;
}

/** Flags of running texts, which are all that takes time or memory. */
const RUNNING = ["workers", "memory-limit", "low-memory", "progress"] as const;

function warnOfIdle(parsed: Parsed, log: Log): void {
  for (const name of RUNNING) {
    if (parsed.has(name)) log.warn(`--${name} has no effect with \`calibrate\` without --texts`);
  }
}

/** Which layers a conversion would quantize. */
function optionsOf(parsed: Parsed): GivenOptions {
  return {
    preset: parsed.string("preset") ?? undefined,
    tier: (parsed.string("tier") ?? undefined) as Tier | undefined,
    excludeLayers: parsed.string("exclude-layers"),
  };
}

/** `model.safetensors` -> `model_calibration.safetensors`, beside the input. */
function outputName(input: string): string {
  const stem = basename(input).replace(/\.safetensors(\.index\.json)?$/, "");
  return join(dirname(input), `${stem}_calibration.safetensors`);
}
