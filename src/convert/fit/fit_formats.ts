/**
 * Chooses a format for each layer: the least total error for a size, or the least size for an error.
 *
 * 1. The model is planned once per format. That says which layers can have it, and to the byte what each takes.
 * 2. `SampleErrors` measures every layer in every format it can have. The loss of a choice is the mean of squared
 *    relative errors over the layers, each counting by its number of weights; kept layers have none.
 * 3. `chooseWithin` takes the best formats for the size. The plan of that choice is made; its header, which depends on
 *    the choice, may need some bytes more than were counted, and the choice is made again with as many less.
 *
 * Everything comes from the input and the options, by exact kernels: every machine chooses the same, so that parts
 * of one conversion need not ask one another.
 */

import type { LayerOverride } from "../../config/layer_override.ts";
import { NO_OVERRIDE } from "../../config/layer_override.ts";
import { layerOverrides, NO_OVERRIDE_SOURCES } from "../../config/layer_overrides.ts";
import { isWeightName, layerName } from "../../core/layer_name.ts";
import { DTYPE_BITS } from "../../core/dtype.ts";
import { UnsupportedError } from "../../core/errors.ts";
import { measuringInputs } from "../../calibration/layer_inputs.ts";
import type { Choice, Option } from "../../plan/fit/choose.ts";
import {
  cheapest,
  chooseWithin,
  frontierOf,
  type Section,
  sectionsOf,
} from "../../plan/fit/sections.ts";
import type { FitFormat } from "../../plan/fit/fit_options.ts";
import type { ConvertOptions } from "../../plan/options.ts";
import { isWide, type Plan, type PlannedTensor } from "../../plan/plan.ts";
import type { Scheme } from "../../quant/scheme.ts";
import { InputFiles } from "../../safetensors/input_files.ts";
import type { Prepared } from "../prepare.ts";
import { SampleErrors } from "./sample_errors.ts";

/** A layer with what was chosen for it. */
export interface FittedLayer {
  /** The name of its weight. */
  readonly name: string;
  /** What was chosen. */
  readonly format: FitFormat;
  /** Relative error that the choice went by. */
  readonly error: number;
  /** Bytes of its tensors in the output. */
  readonly bytes: number;
}

/** What was chosen, and what else there was. */
export interface FitResult {
  /** The size that was asked for; null: an error was. */
  readonly limitBytes: number | null;
  /** The error that was asked for; null: a size was. */
  readonly maxError: number | null;
  /** Size of the output. */
  readonly bytes: number;
  /** Root mean square of the layers' relative errors, each counting by its number of weights. */
  readonly error: number;
  /** Whether no other choice is better by the measured errors. */
  readonly isBest: boolean;
  /** The layers that could have several formats. */
  readonly layers: readonly FittedLayer[];
  /** Layers whose outputs were measured; the weights of the others were. */
  readonly byOutputs: number;
  /** Sizes and errors of the best choices, from the smallest on. */
  readonly frontier: readonly { readonly bytes: number; readonly error: number }[];
  /** All layers in one format, where they can have it. */
  readonly single: readonly {
    readonly format: FitFormat;
    readonly bytes: number;
    readonly error: number;
  }[];
}

/** Digits by which the offsets of a tensor may differ between two plans. */
const OFFSET_DIGITS = 6;

/** Points of the frontier that are kept. */
const FRONTIER_POINTS = 12;

/** A layer that a format is chosen for. */
interface Candidate {
  readonly tensor: PlannedTensor;
  readonly formats: readonly FitFormat[];
  /** Losses are squared relative errors times `share`. */
  readonly options: readonly Option[];
  /** Its part of the weights of all candidates. */
  readonly share: number;
  /** The recipe of each format; `bf16`: rounded to that; null: as it is in the source. */
  readonly schemes: readonly (Scheme | "bf16" | null)[];
}

/** What {@link fitFormats} returns. */
export interface Fitted {
  readonly options: ConvertOptions;
  readonly result: FitResult;
}

/**
 * Returns `options` with a format for each layer.
 *
 * @param base the model, prepared without a choice.
 * @param prepare prepares the same model with other options.
 * @throws UnsupportedError if the size or the error cannot be reached, with what can be; if nothing can be chosen.
 * RangeError if a file ends early; RemoteError if a server does not send what is measured.
 */
export function fitFormats(
  base: Prepared,
  options: ConvertOptions,
  prepare: (options: ConvertOptions) => Prepared,
): Fitted {
  const plans = plansOf(base, options, prepare);
  const limitBytes = limitOf(base, options);
  const candidates = candidatesOf(base, options, plans);
  refuseNoChoice(base, options, candidates);
  const byOutputs = measureAll(base, options, candidates);
  const fixed = fixedBytesOf(base, candidates);
  const sections = sectionsFor(candidates, plans, fixed);
  // Entries of the header are counted with the offsets of another plan, a few digits more or less.
  let slack = -OFFSET_DIGITS * base.plan.outputs.length;
  for (;;) {
    const choice = limitBytes === null
      ? cheapest(sections, options.maxError! ** 2)
      : chooseWithin(sections, limitBytes - fixed - slack);
    if (choice === null) {
      const bytesOf = (choice: Choice) =>
        prepare(withChoice(options, candidates, choice)).plan.totals.outputBytes;
      throw new UnsupportedError(cannotReach(sections, limitBytes, options, bytesOf));
    }
    const chosen = withChoice(options, candidates, choice);
    const { outputBytes: bytes } = prepare(chosen).plan.totals;
    if (limitBytes !== null && bytes > limitBytes) {
      slack += bytes - limitBytes;
      continue;
    }
    const layers = chosenLayers(candidates, choice);
    const points = frontierOf(sections).map(({ cost, loss }) => ({
      bytes: fixed + cost,
      error: errorOf(loss),
    }));
    return {
      options: chosen,
      result: {
        limitBytes,
        maxError: options.maxError,
        bytes,
        error: errorOf(choice.loss),
        isBest: choice.isBest,
        byOutputs,
        layers,
        frontier: thinned(points),
        single: singles(candidates, options.fitFormats, { fixed, plans }),
      },
    };
  }
}

/** The plan of the model in each format alone; BF16 needs none. */
function plansOf(
  base: Prepared,
  options: ConvertOptions,
  prepare: (options: ConvertOptions) => Prepared,
): Map<FitFormat, Plan> {
  const plain = { ...options, fit: null, maxError: null };
  return new Map(
    options.fitFormats.filter((format) => format !== "bf16").map((format) => [
      format,
      format === "int8" ? base.plan : prepare({ ...plain, output: format }).plan,
    ]),
  );
}

function refuseNoChoice(
  { model }: Prepared,
  { fitFormats }: ConvertOptions,
  candidates: readonly Candidate[],
): void {
  if (candidates.length > 0) return;
  throw new UnsupportedError(
    `Cannot choose formats for ${JSON.stringify(model.path)}: no layer can have more than one of ` +
      fitFormats.join(", "),
  );
}

/** Bytes of the output that no choice changes. */
function fixedBytesOf({ plan }: Prepared, candidates: readonly Candidate[]): number {
  const sizes = sizesOf(plan);
  return candidates.reduce((rest, { tensor }) => {
    const { copied, made } = sizes.get(layerName(tensor.source.name))!;
    return rest - copied - made;
  }, plan.totals.outputBytes);
}

function chosenLayers(candidates: readonly Candidate[], choice: Choice): FitResult["layers"] {
  return candidates.map(({ tensor, formats, options, share }, item) => {
    const at = choice.options[item]!;
    return {
      name: tensor.source.name,
      format: formats[at]!,
      error: errorOf(options[at]!.loss / share),
      bytes: options[at]!.cost,
    };
  });
}

/** The sections of sizes, from those at which all layers fit in a format; BF16 is allowed in all. */
function sectionsFor(
  candidates: readonly Candidate[],
  plans: ReadonlyMap<FitFormat, Plan>,
  fixed: number,
): Section[] {
  return sectionsOf(
    candidates.map(({ options }) => options),
    candidates.map(({ formats }) => formats),
    new Map([...plans].map(([format, { totals }]) => [format, totals.outputBytes - fixed])),
  );
}

/** A root mean square, of a sum that rounding may have brought below 0. */
function errorOf(loss: number): number {
  return Math.sqrt(Math.max(0, loss));
}

/** The size of the output that is asked for; null: an error is. */
function limitOf({ plan }: Prepared, { fit }: ConvertOptions): number | null {
  if (fit === null) return null;
  return "bytes" in fit ? fit.bytes : Math.floor(fit.share * plan.totals.inputBytes);
}

/** Why neither the size nor the error can be had, with what can. */
function cannotReach(
  sections: readonly Section[],
  limitBytes: number | null,
  { maxError, fitFormats }: ConvertOptions,
  sizeOf: (choice: Choice) => number,
): string {
  const formats = fitFormats.join(", ");
  if (limitBytes !== null) {
    const least = sizeOf(cheapest(sections, Infinity)!);
    const inUnits = least < 1e9
      ? `${(least / 1e6).toFixed(2)} MB`
      : `${(least / 1e9).toFixed(2)} GB`;
    return `Cannot make the output ${limitBytes} bytes: the smallest that ${formats} give is ` +
      `${least} bytes (${inUnits})`;
  }
  const least = errorOf(frontierOf(sections).at(-1)!.loss);
  return `Cannot make the error ${maxError}: the least that ${formats} give is ` +
    `${least.toPrecision(3)}; allow bf16, or a larger error`;
}

/** The layers that the plan quantizes, that no config or flag names, and that can have several formats. */
function candidatesOf(
  { plan }: Prepared,
  { layers, fitFormats }: ConvertOptions,
  plans: ReadonlyMap<FitFormat, Plan>,
): Candidate[] {
  const weights = plan.tensors.filter(({ action, source }) =>
    action === "quantize" && source.shape.length === 2 && isWeightName(source.name)
  );
  const named = layers === null
    ? null
    : layerOverrides(weights.map(({ source }) => layerName(source.name)), layers);
  const tensors = new Map(
    [...plans].map(([format, plan]) => [
      format,
      { sizes: sizesOf(plan), tensors: new Map(plan.tensors.map((t) => [t.source.name, t])) },
    ]),
  );
  return weights.flatMap((tensor) => {
    const { name } = tensor.source;
    if (named !== null && named.of(layerName(name), false) !== null) return [];
    const formats: FitFormat[] = [], schemes: Candidate["schemes"][number][] = [];
    const costs: number[] = [];
    for (const format of fitFormats) {
      if (format === "bf16") {
        const size = tensors.values().next().value!.sizes.get(layerName(name))!;
        formats.push(format);
        schemes.push(isWide(tensor.source.dtype) ? "bf16" : null);
        costs.push(size.copied + keptBytes(tensor) + keptEntryBytes(tensor));
        continue;
      }
      const { sizes, tensors: planned } = tensors.get(format)!;
      const scheme = planned.get(name)?.scheme ?? null;
      // A shape that a format cannot hold falls to INT8, which is an option of its own.
      if (scheme === null || (scheme.levels === undefined) !== (format === "int8")) continue;
      const size = sizes.get(layerName(name))!;
      formats.push(format);
      schemes.push(scheme);
      costs.push(size.copied + size.made);
    }
    if (formats.length < 2) return [];
    const options = costs.map((cost) => ({ cost, loss: 0 }));
    return [{ tensor, formats, schemes, options, share: NaN }];
  });
}

/**
 * Bytes of the outputs of each layer, with their entries in the header: copied ones, such as its bias, and those
 * that its format makes.
 */
function sizesOf({ outputs }: Plan): Map<string, { copied: number; made: number }> {
  const sizes = new Map<string, { copied: number; made: number }>();
  for (const { name, dtype, shape, offsetBytes, byteLength, content } of outputs) {
    const layer = name.slice(0, name.lastIndexOf("."));
    const size = sizes.get(layer) ?? { copied: 0, made: 0 };
    sizes.set(layer, size);
    const entry = { dtype, shape, data_offsets: [offsetBytes, offsetBytes + byteLength] };
    const header = JSON.stringify({ [name]: entry }).length;
    const isCopied = content.kind === "copy" || content.kind === "cast";
    size[isCopied ? "copied" : "made"] += byteLength + header;
  }
  return sizes;
}

/** Bytes of a weight that is not quantized. */
function keptBytes(tensor: PlannedTensor): number {
  const { dtype, byteLength } = tensor.source;
  return isWide(dtype) ? byteLength * 16 / DTYPE_BITS[dtype] : byteLength;
}

/** Bytes of the header's entry of a tensor that is kept, about. */
function keptEntryBytes({ source: { name, dtype, shape, offsetBytes } }: PlannedTensor): number {
  const entry = { dtype, shape, data_offsets: [offsetBytes, offsetBytes] };
  return JSON.stringify({ [name]: entry }).length;
}

/** Measures the losses of all candidates, in place; returns how many by their outputs. */
function measureAll(
  { matrixOf, calibration, inputsOptions, inputPaths }: Prepared,
  { method }: ConvertOptions,
  candidates: Candidate[],
): number {
  using files = new InputFiles(inputPaths);
  const mostCols = Math.max(...candidates.map(({ tensor }) => tensor.source.shape.at(-1)!));
  const errors = new SampleErrors(files, mostCols);
  let byOutputs = 0;
  candidates.forEach((candidate, index) => {
    const { tensor, schemes } = candidate;
    const found = calibration === null || calibration.isSynthetic
      ? null
      : measuringInputs(calibration, layerName(tensor.source.name), inputsOptions);
    const inputs = found?.inputs.statistic === "activations" ? found.inputs : null;
    if (inputs !== null) byOutputs++;
    const losses = errors.of({
      matrix: matrixOf(tensor.source),
      schemes: schemes.filter((scheme) => scheme !== null),
      inputs,
      isCompensated: found !== null && method !== "simple",
    });
    let next = 0;
    candidates[index] = {
      ...candidate,
      options: candidate.options.map(({ cost }, k) => ({
        cost,
        loss: schemes[k] === null ? 0 : losses[next++]!,
      })),
    };
  });
  shrink(candidates);
  weigh(candidates);
  return byOutputs;
}

/** Halves, in the logarithm, the distance of each loss from the mean loss of its format. */
function shrink(candidates: Candidate[]): void {
  const sums = new Map<FitFormat, { log: number; count: number }>();
  for (const { formats, options } of candidates) {
    options.forEach(({ loss }, k) => {
      if (loss === 0) return;
      const sum = sums.get(formats[k]!) ?? { log: 0, count: 0 };
      sums.set(formats[k]!, { log: sum.log + Math.log(loss), count: sum.count + 1 });
    });
  }
  candidates.forEach((candidate, index) => {
    candidates[index] = {
      ...candidate,
      options: candidate.options.map(({ cost, loss }, k) => {
        const sum = sums.get(candidate.formats[k]!);
        if (loss === 0 || sum === undefined) return { cost, loss };
        return { cost, loss: Math.exp((Math.log(loss) + sum.log / sum.count) / 2) };
      }),
    };
  });
}

/**
 * Lets each layer count by its number of weights: large ones do more in a model, and a byte that is spent on any of
 * them should bring as much.
 */
function weigh(candidates: Candidate[]): void {
  const sizes = candidates.map(({ tensor: { source: { shape } } }) => shape[0]! * shape[1]!);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  candidates.forEach((candidate, index) => {
    const share = sizes[index]! / total;
    const options = candidate.options.map(({ cost, loss }) => ({ cost, loss: loss * share }));
    candidates[index] = { ...candidate, share, options };
  });
}

/** The options with what was chosen for single layers. */
function withChoice(
  asked: ConvertOptions,
  candidates: readonly Candidate[],
  { options: choice }: Choice,
): ConvertOptions {
  const options = { ...asked, fit: null, maxError: null };
  const goal = asked.fit === null ? "the error" : "the size";
  const chosen = new Map(candidates.map(({ tensor, formats }, item): [string, LayerOverride] => {
    const format = formats[choice[item]!]!;
    const origin = `chosen for ${goal}: ${format}`;
    return [
      layerName(tensor.source.name),
      format === "bf16"
        ? {
          ...NO_OVERRIDE,
          skip: true,
          keptAs: isWide(tensor.source.dtype) ? "BF16" : null,
          origin,
        }
        : { ...NO_OVERRIDE, output: format, origin },
    ];
  }));
  return { ...options, layers: { ...(options.layers ?? NO_OVERRIDE_SOURCES), chosen } };
}

function singles(
  candidates: readonly Candidate[],
  formats: readonly FitFormat[],
  { fixed, plans }: { fixed: number; plans: ReadonlyMap<FitFormat, Plan> },
): FitResult["single"] {
  return formats.map((format) => {
    let bytes = fixed, loss = 0;
    for (const { formats: has, options } of candidates) {
      const at = has.indexOf(format);
      const option = options[at === -1 ? has.indexOf("int8") : at] ?? options[0]!;
      bytes += option.cost;
      loss += option.loss;
    }
    return { format, bytes: plans.get(format)?.totals.outputBytes ?? bytes, error: errorOf(loss) };
  });
}

/** Points that are about evenly apart in size. */
function thinned<T extends { readonly bytes: number }>(points: readonly T[]): T[] {
  const least = points[0]!.bytes, span = points.at(-1)!.bytes - least;
  const kept: T[] = [];
  for (const point of points) {
    const next = least + (span * kept.length) / (FRONTIER_POINTS - 1);
    if (point.bytes >= next || point === points.at(-1)) kept.push(point);
  }
  return kept;
}

/** What a user should know of a choice, one sentence each. */
export function fitNotes({ layers, byOutputs, isBest }: FitResult): string[] {
  const byWeights = layers.length - byOutputs;
  return [
    ...(byOutputs > 0 && byWeights > 0
      ? [
        `formats of ${byWeights} of ${layers.length} layers are chosen by the errors of their weights: ` +
        "the calibration data has no inputs of them",
      ]
      : []),
    ...(isBest
      ? []
      : ["the choice of formats is near the best one; to find it would take too long"]),
  ];
}
