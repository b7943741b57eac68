/** `quantsmith calibrate SRC [DST]`: statistics of synthetic inputs, in the layout of calibration data. */

import { basename, dirname, join } from "node:path";
import { compileLayerPattern } from "../../config/layer_pattern.ts";
import { calibrateModel } from "../../convert/calibrate.ts";
import { presetByName } from "../../presets/registry.ts";
import { localNameOf } from "../../remote/location.ts";
import type { CommandContext } from "../context.ts";
import { filesOf, verbosityOf } from "../files.ts";
import { createLog } from "../log.ts";
import { openFor } from "../open_input.ts";
import type { Parsed } from "../parse.ts";

/** Inputs per layer where nothing is said: as in the documents' example. */
const DEFAULT_SAMPLES = 256;

/** Runs the subcommand; returns the exit code. */
export async function calibrateCommand(parsed: Parsed, context: CommandContext): Promise<number> {
  const files = filesOf(parsed);
  const output = files.output ?? outputName(localNameOf(files.input));
  const log = createLog(verbosityOf(parsed), context);
  if (parsed.has("workers")) log.warn("--workers changes nothing with `calibrate`: it takes one");
  const lora = parsed.string("calibration-lora");
  const preset = parsed.string("preset"), exclude = parsed.string("exclude-layers");
  using input = await openFor(files.input, { context, log, output });
  const result = await calibrateModel({
    input: input.model,
    output,
    samples: parsed.number("calib_samples") ?? DEFAULT_SAMPLES,
    seed: parsed.number("manual_seed") ?? 0,
    lora,
    force: parsed.bool("force"),
    options: {
      ...(preset === null ? {} : { preset: presetByName(preset) }),
      tier: (parsed.string("tier") ?? "balanced") as "balanced",
      excludeLayers: exclude === null
        ? null
        : compileLayerPattern(exclude, { place: "--exclude-layers" }),
    },
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
