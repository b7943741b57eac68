/**
 * Synthetic calibration data: inputs of every layer that a conversion would quantize are made up, and their
 * statistics are written in the layout of calibration data, marked as synthetic. They say nothing about a
 * model's real inputs: no rounding follows them. They are a scale for static activations, factors for
 * SmoothQuant, and the layout to put real numbers in.
 *
 * Inputs are normal deviates, seeded by (seed, layer). With a LoRA each also has a random part along the
 * directions that the LoRA reads, as much energy in all as the rest.
 */

import { bytesOf } from "../core/bytes.ts";
import { layerName } from "../core/layer_name.ts";
import { fillNormal, randomFor } from "../core/rng.ts";
import { InterruptedError } from "../core/errors.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { layoutTensors } from "../safetensors/layout.ts";
import { checkOutput } from "../safetensors/leftovers.ts";
import { LockedOutput } from "../safetensors/locked_output.ts";
import { refuseSameFile } from "../safetensors/output_file.ts";
import { type LoraDirections, SYNTHETIC_METADATA } from "../calibration/calibration.ts";
import { openLoraSteering } from "../calibration/lora_steering.ts";
import type { OptionNames } from "../plan/option_names.ts";
import { type GivenOptions, resolveOptions } from "../plan/resolve_options.ts";
import { prepare } from "./prepare.ts";

/** Parameters of a calibration. */
export interface CalibrateRequest {
  readonly input: string | ModelSource;
  /** Ends with `.json` or `.safetensors`. */
  readonly output: string;
  /** Inputs per layer, 1 or more. */
  readonly samples: number;
  readonly seed: number;
  /** A LoRA whose directions the inputs get; null: none. */
  readonly lora: string | null;
  /** Replace an existing output. */
  readonly force: boolean;
  /** Which layers a conversion would quantize. */
  readonly options: GivenOptions;
  /** How the options are written by who asks; absent: as they are. */
  readonly names?: OptionNames;
  readonly signal?: AbortSignal;
}

/** Result of a calibration. */
export interface CalibrateResult {
  readonly layers: number;
  /** How many have the directions of the LoRA. */
  readonly steered: number;
  readonly notes: readonly string[];
}

/** Statistics of one layer. */
interface LayerStatistics {
  readonly channelMax: Float32Array;
  readonly channelMean: Float32Array;
  readonly inputScale: number;
}

/**
 * Writes synthetic statistics of a model.
 *
 * @throws as `prepare` and `openLoraSteering`; UnsupportedError if the output exists; InterruptedError
 * if `signal` aborts. No output is left behind.
 */
export async function calibrateModel(request: CalibrateRequest): Promise<CalibrateResult> {
  const { output, force, samples, seed, lora } = request;
  await checkOutput(output, { force });
  const options = resolveOptions(request.options, {
    what: "a calibration",
    ...(request.names === undefined ? {} : { names: request.names }),
  });
  const { model, plan, notes } = prepare(request.input, options);
  refuseSameFile(output, model.paths);
  const steering = lora === null ? null : openLoraSteering(model.tensors, lora);
  const layers = new Map<string, LayerStatistics>();
  let steered = 0;
  for (const { source, action } of plan.tensors) {
    if (action !== "quantize") continue;
    // Lets a signal come through: a large model takes seconds.
    await new Promise((resolve) => setTimeout(resolve));
    if (request.signal?.aborted) throw new InterruptedError();
    const directions = steering?.directionsOf(source.name) ?? null;
    if (directions !== null) steered++;
    const cols = source.shape.at(-1)!;
    const layer = layerName(source.name);
    layers.set(layer, statisticsOf(cols, { samples, seed, name: layer, directions }));
  }
  const metadata = {
    [SYNTHETIC_METADATA.key]: SYNTHETIC_METADATA.value,
    "quantsmith.samples": String(samples),
    "quantsmith.seed": String(seed),
    ...(lora === null ? {} : { "quantsmith.lora_layers": String(steered) }),
  };
  const content = { layers, metadata, force };
  await (output.endsWith(".json") ? writeJson : writeSafetensors)(output, content);
  return { layers: layers.size, steered, notes: [...notes, ...steering?.notes ?? []] };
}

/** Magnitudes of `samples` inputs of `cols` channels. */
export function statisticsOf(
  cols: number,
  { samples, seed, name, directions }: {
    samples: number;
    seed: number;
    name: string;
    directions: LoraDirections | null;
  },
): LayerStatistics {
  const next = randomFor(seed, `${name}:calibration`);
  const channelMax = new Float32Array(cols), sums = new Float64Array(cols);
  const x = new Float32Array(cols), amounts = new Float32Array(directions?.rank ?? 0);
  const strength = Math.sqrt(cols / Math.max(1, amounts.length));
  for (let sample = 0; sample < samples; sample++) {
    fillNormal(x, next);
    fillNormal(amounts, next);
    amounts.forEach((amount, r) => {
      const row = directions!.values.subarray(r * cols, (r + 1) * cols);
      for (let k = 0; k < cols; k++) x[k] = x[k]! + amount * strength * row[k]!;
    });
    for (let k = 0; k < cols; k++) {
      const magnitude = Math.abs(x[k]!);
      if (magnitude > channelMax[k]!) channelMax[k] = magnitude;
      sums[k] = sums[k]! + magnitude;
    }
  }
  const channelMean = Float32Array.from(sums, (sum) => sum / samples);
  const inputScale = Math.fround(channelMax.reduce((most, x) => Math.max(most, x), 0) / 127);
  return { channelMax, channelMean, inputScale };
}

interface Content {
  readonly layers: ReadonlyMap<string, LayerStatistics>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly force: boolean;
}

async function writeJson(
  path: string,
  { layers, metadata, force }: Content,
): Promise<void> {
  const entries = [...layers].map(([layer, { channelMax, channelMean, inputScale }]) => [layer, {
    channel_max: [...channelMax],
    channel_mean: [...channelMean],
    input_scale: inputScale,
  }]);
  const json = JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }, null, 1);
  const bytes = new TextEncoder().encode(json + "\n");
  const whole = { header: bytes, totalBytes: bytes.length };
  using file = await LockedOutput.create(path, whole, { force });
  await file.commit();
}

async function writeSafetensors(
  path: string,
  { layers, metadata, force }: Content,
): Promise<void> {
  const values = new Map<string, Float32Array>();
  for (const [layer, { channelMax, channelMean, inputScale }] of layers) {
    values.set(`${layer}.channel_max`, channelMax);
    values.set(`${layer}.channel_mean`, channelMean);
    values.set(`${layer}.input_scale`, Float32Array.of(inputScale));
  }
  const infos = [...values].map(([name, { length }]) => ({
    name,
    dtype: "F32" as const,
    shape: name.endsWith(".input_scale") ? [] : [length],
  }));
  const { header, entries, totalBytes } = layoutTensors(infos, metadata);
  using file = await LockedOutput.create(path, { header, totalBytes }, { force });
  for (const { name, offsetBytes } of entries) {
    file.set.write(bytesOf(values.get(name)!), offsetBytes);
  }
  await file.commit();
}
