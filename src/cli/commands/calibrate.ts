/** `quantsmith calibrate SRC [DST]`: statistics of synthetic inputs, in the layout of calibration data. */

import { basename, dirname, join } from "node:path";
import { calibrateModel } from "../../convert/calibrate.ts";
import { DEFAULT_CONVERT_OPTIONS, RUN_DEFAULTS, type Tier } from "../../plan/options.ts";
import { flagNames } from "../option_flags.ts";
import { localNameOf } from "../../remote/location.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";

/** Runs the subcommand; returns the exit code. */
export async function calibrateCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const files = filesOf(parsed);
  const output = files.output ?? outputName(localNameOf(files.input));
  const log = createLog(verbosityOf(parsed), context);
  if (parsed.has("workers")) log.warn("--workers has no effect with `calibrate`: it takes one");
  const lora = parsed.string("calibration-lora");
  const preset = parsed.string("preset"), exclude = parsed.string("exclude-layers");
  using input = await openFor(files.input, { context, log, output });
  const result = await calibrateModel({
    input: input.model,
    output,
    samples: parsed.number("calib_samples") ?? RUN_DEFAULTS.calibrationSamples,
    seed: parsed.number("manual_seed") ?? DEFAULT_CONVERT_OPTIONS.seed,
    lora,
    force: parsed.bool("force"),
    options: {
      preset: preset ?? undefined,
      tier: (parsed.string("tier") ?? undefined) as Tier | undefined,
      excludeLayers: exclude,
    },
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

/** `model.safetensors` -> `model_calibration.safetensors`, beside the input. */
function outputName(input: string): string {
  const stem = basename(input).replace(/\.safetensors(\.index\.json)?$/, "");
  return join(dirname(input), `${stem}_calibration.safetensors`);
}
