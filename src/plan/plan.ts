/**
 * The plan: from headers and options alone, what becomes of every input tensor and why, and every
 * output tensor with its place in the file. Pure. `--dry-run` prints it; tasks are cut from it.
 */

import { bytesOf } from "../core/bytes.ts";
import type { DType } from "../core/dtype.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { mergedShape } from "../lora/key_map.ts";
import { familyBanks } from "../presets/banks.ts";
import type { RuleChoice } from "../presets/explain.ts";
import type { Detection, LayerDecision, LayerRule } from "../presets/preset.ts";
import { isFitted, withTable } from "../quant/level_grid.ts";
import { randomSigns } from "../quant/incoherence.ts";
import type { Scheme, Transform } from "../quant/scheme.ts";
import type { OutputPart } from "../safetensors/shard_layout.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { QUANTIZATION_METADATA_KEY } from "../formats/marker_reader.ts";
import { type Marker, markerBytes, markerOf, quantizationMetadata } from "../formats/marker.ts";
import { rowsOf } from "../formats/layer_shapes.ts";
import { type DecidedLayer, type LayerControl, layerControl } from "./layer_control.ts";
import { bankMode, layoutOfGrid, scaleShape, schemeFor } from "./scheme_choice.ts";
import type { ConvertOptions } from "./options.ts";
import { SMOOTH_FACTORS } from "../formats/int8_layer.ts";
import {
  type Content,
  layoutOutputs,
  type PlannedOutput,
  type PlannedOutputs,
} from "./planned_outputs.ts";
import { SEGMENT_ELEMENTS } from "./segment_elements.ts";

export type { Content, PlannedOutput } from "./planned_outputs.ts";

/** Action on an input tensor. */
export type Action = "quantize" | "keep" | "cast" | "remove";

/** One input tensor and its fate. */
export interface PlannedTensor {
  /** The tensor of the input. */
  readonly source: SourceTensor;
  /** The action. */
  readonly action: Action;
  /** Why, in a few words. */
  readonly reason: string;
  /** Set for `quantize`. */
  readonly scheme: Scheme | null;
  /** Integers that the runtime multiplies in, if the format leaves it open. */
  readonly linearDtype?: ConvertOptions["linearDtype"];
}

/** Counts and sizes of a plan. */
export interface PlanTotals {
  /** How many tensors are quantized. */
  readonly quantize: number;
  /** How many are copied. */
  readonly keep: number;
  /** How many are cast. */
  readonly cast: number;
  /** How many are left out. */
  readonly remove: number;
  /** Size of the input files. */
  readonly inputBytes: number;
  /** Exact size of the output files. */
  readonly outputBytes: number;
}

/** Everything that is decided before a value is read. */
export interface Plan {
  /** Result of the detection of the model. */
  readonly detection: Detection;
  /** Whose file is written. */
  readonly target: ConvertOptions["target"];
  /** One per input tensor, in input order. */
  readonly tensors: readonly PlannedTensor[];
  /** In file order. */
  readonly outputs: readonly PlannedOutput[];
  /** The files of the output, one or more. */
  readonly parts: readonly OutputPart[];
  /** Counts and sizes. */
  readonly totals: PlanTotals;
  /** Layers that could not take the mode, `name: why`. */
  readonly fallbacks: readonly string[];
  /** Layers that the mode does not fit and `--heur` keeps, and why. */
  readonly misfits: readonly string[];
  /** Request for the rule that chooses the layers. */
  readonly choice: RuleChoice;
}

/** Input of {@link makePlan}. */
export interface PlanInput {
  readonly model: ModelSource;
  readonly detection: Detection;
  readonly rule: LayerRule;
  readonly options: ConvertOptions;
  /**
   * Already quantized weights as what they dequantize to, by name, and the tensors that belong to them
   * (markers, scales) and go. Empty for a float model.
   */
  readonly requantized?: {
    readonly weights: ReadonlyMap<string, TensorInfo>;
    readonly parts: ReadonlySet<string>;
  };
  /** Names of tensors that say nothing and go: markers of NUL bytes. */
  readonly dropped?: ReadonlySet<string>;
  /** Names of weights whose errors are compensated. */
  readonly calibrated?: ReadonlySet<string>;
  /** Names of weights that get the `input_scale` of static activations. */
  readonly staticScales?: ReadonlySet<string>;
  /** Names of tensors that LoRAs are merged into. */
  readonly merged?: ReadonlySet<string>;
  /** Names that are kept because they hold NaN or infinity (`--nonfinite keep`). */
  readonly keepNonFinite?: ReadonlySet<string>;
  /** Tables of levels that were fitted to weights, by name. */
  readonly codebooks?: ReadonlyMap<string, readonly number[]>;
}

/**
 * Returns the plan.
 *
 * @throws UsageError if options contradict one another; UnsupportedError if an output name is
 * taken twice.
 */
export function makePlan(input: PlanInput): Plan {
  const { model, options } = input;
  const logical = model.tensors.map((t) => input.requantized?.weights.get(t.name) ?? t);
  const control = layerControl(logical, options, familyBanks(input.detection, options.preset));
  const draft: Draft = {
    input,
    wanted: [],
    markers: new Map(),
    known: new Map(),
    fallbacks: [],
    misfits: [],
  };
  const tensors = model.tensors.map((source): PlannedTensor => {
    const decision = decide(input, control, source);
    switch (decision.action) {
      case "remove":
        return { source, action: "remove", reason: decision.reason, scheme: null };
      case "cast":
        return planCast(input, draft.wanted, source, decision.reason);
      case "quantize":
        return planLayer(draft, source, decision);
      case "keep":
        return decision.keptAs === "BF16" && isWide(source.dtype) &&
            !input.keepNonFinite?.has(source.name)
          ? planBf16(draft.wanted, source, decision.reason)
          : planRest(input, draft.wanted, source, decision.reason);
    }
  });
  const { wanted, markers, fallbacks, misfits } = draft;
  const layout = layoutOutputs(wanted, metadataOf(input, markers), {
    path: model.path,
    shardBytes: options.shardBytes,
  });
  const count = (action: Action) => tensors.filter((t) => t.action === action).length;
  return {
    detection: input.detection,
    target: options.target,
    tensors,
    outputs: layout.outputs,
    parts: layout.parts,
    totals: {
      quantize: count("quantize"),
      keep: count("keep"),
      cast: count("cast"),
      remove: count("remove"),
      inputBytes: model.inputBytes,
      outputBytes: layout.totalBytes,
    },
    fallbacks,
    misfits,
    choice: { preset: options.preset, tier: options.tier },
  };
}

/** A plan while its tensors are decided one after the other. */
interface Draft {
  readonly input: PlanInput;
  readonly wanted: PlannedOutputs;
  /** By the name of the layer. */
  readonly markers: Map<string, Marker>;
  /** By what they say, as nearly all layers have one of a few. */
  readonly known: Map<string, KnownMarker>;
  readonly fallbacks: string[];
  readonly misfits: string[];
}

/** A marker that layers share. */
interface KnownMarker {
  readonly marker: Marker;
  readonly bytes: Uint8Array;
  readonly shape: readonly number[];
}

function knownMarker(known: Draft["known"], marker: Marker): KnownMarker {
  const text = JSON.stringify(marker), found = known.get(text);
  if (found !== undefined) return found;
  const bytes = markerBytes(marker), made = { marker, bytes, shape: [bytes.length] };
  known.set(text, made);
  return made;
}

/** Plans a tensor that is to be quantized; it stays as it is if its scheme cannot be had. */
function planLayer(draft: Draft, source: SourceTensor, decision: DecidedLayer): PlannedTensor {
  const { input, wanted, fallbacks, misfits } = draft, { name } = source;
  const isBank = source.shape.length === 3;
  const barred = isBank ? bankBarrier(decision) : null;
  if (barred !== null) return planRest(input, wanted, source, barred);
  if (isBank) fallbacks.push(...bankFallbacks(name, decision));
  const { options, options: { heur, method }, recipe } = decision;
  const mode = isBank ? bankMode(decision.mode) : decision.mode;
  const calibrated = method !== "simple" && (input.calibrated?.has(name) ?? false);
  const choice = schemeFor(mode, { ...rowsOf(source.shape), heur, recipe, calibrated });
  const { fellBack } = choice, scheme = withCodebook(choice.scheme, input.codebooks?.get(name));
  if (fellBack !== null) (scheme === null ? misfits : fallbacks).push(`${name}: ${fellBack}`);
  if (scheme === null) return planRest(input, wanted, source, `--heur: ${fellBack}`);
  const hasInputScale = !isBank && (options.inputScale || (input.staticScales?.has(name) ?? false));
  const linearDtype = recipe?.grid?.linearDtype ?? options.linearDtype;
  planQuantize(draft, { source, scheme, options: { ...options, linearDtype }, hasInputScale });
  const reason = fellBack === null ? decision.reason : `${decision.reason}; ${fellBack}`;
  const open = scheme.levels?.kind === "int4" ? { linearDtype } : {};
  return { source, action: "quantize", reason, scheme, ...open };
}

function withCodebook(scheme: Scheme | null, table: readonly number[] | undefined): Scheme | null {
  if (scheme?.levels === undefined || table === undefined || !isFitted(scheme.levels)) {
    return scheme;
  }
  return { ...scheme, levels: withTable(scheme.levels, table) };
}

/** Why expert banks are INT8: tried with the classes of ComfyUI 0.33.0. */
export const BANK_FORMATS: string =
  "ComfyUI 0.33.0 fails to load expert banks with scales of groups (orig_shape must " +
  "be 2D), so that banks are written as INT8";

/** What an expert bank does not get of what was asked for. */
function bankFallbacks(name: string, { mode: { scaling, grid } }: DecidedLayer): string[] {
  return [
    ...(scaling === "row" ? [] : [`${name}: row scaling: expert banks have no other`]),
    ...(grid === null ? [] : [`${name}: INT8 instead of ${grid.output}: ${BANK_FORMATS}`]),
  ];
}

/** Why an expert bank stays as it is though its family's are quantized; null: nothing speaks against it. */
function bankBarrier({ options }: DecidedLayer): string | null {
  if (!options.comfyQuant || options.target === "ctq") {
    return "expert bank: only the layout of --target comfyui with its markers has it";
  }
  if (options.quip.storeTransformed && options.method === "quip") {
    return "expert bank: the transformed layout has no banks";
  }
  return null;
}

function decide(input: PlanInput, control: LayerControl, source: SourceTensor): DecidedLayer {
  const logical = input.requantized?.weights.get(source.name) ?? source;
  const decision: LayerDecision = input.dropped?.has(source.name)
    ? { action: "remove", reason: "a marker of NUL bytes" }
    : input.requantized?.parts.has(source.name)
    ? { action: "remove", reason: "replaced by requantization" }
    : input.rule(logical);
  const fate = control(logical, decision);
  const isMerged = input.merged?.has(source.name) === true && fate.action !== "remove";
  const isChanged = isMerged || fate.action === "quantize" || fate.action === "cast";
  if (isChanged && input.keepNonFinite?.has(source.name)) {
    const what = isMerged ? "merged or quantized" : "quantized";
    const reason = `holds values that cannot be ${what} (--nonfinite keep)`;
    return { ...fate, action: "keep", reason };
  }
  if (isMerged) refuseLongRows(source);
  return isMerged ? { ...fate, reason: `${fate.reason} + LoRA` } : fate;
}

function refuseLongRows(tensor: SourceTensor): void {
  const { name } = tensor, [, cols] = mergedShape(tensor);
  if (cols <= SEGMENT_ELEMENTS) return;
  throw new UnsupportedError(
    `Cannot merge a LoRA into tensor ${JSON.stringify(name)}: its rows have ${cols} elements, ` +
      `at most ${SEGMENT_ELEMENTS} are merged`,
  );
}

/** Tensors of the output, in the order they were planned. */
function planKeep(wanted: PlannedOutputs, source: SourceTensor, reason: string): PlannedTensor {
  wanted.push({ info: source, content: { kind: "copy", source } });
  return { source, action: "keep", reason, scheme: null };
}

function planCast(
  { merged }: PlanInput,
  wanted: PlannedOutputs,
  source: SourceTensor,
  reason: string,
): PlannedTensor {
  const { name, shape } = source;
  if (source.dtype === "F16" && !merged?.has(name)) {
    return planKeep(wanted, source, `${reason}; F16 already`);
  }
  wanted.push({
    info: { name, dtype: "F16", shape },
    content: { kind: "cast", source, dtype: "F16" },
  });
  return { source, action: "cast", reason, scheme: null };
}

/** Keeps a tensor; codes whose scales go are written as the values they stand for. */
function planRest(
  { requantized, merged, keepNonFinite }: PlanInput,
  wanted: PlannedOutputs,
  source: SourceTensor,
  reason: string,
): PlannedTensor {
  const { name } = source;
  if (!requantized?.weights.has(name)) {
    // A tensor that is kept for its NaN stays as it is.
    const isMerged = merged?.has(name) === true && !keepNonFinite?.has(name);
    return isMerged ? planMerged(wanted, source, reason) : planKeep(wanted, source, reason);
  }
  return planBf16(wanted, source, `dequantized: ${reason}`);
}

/** Whether a dtype has more bits than BF16. */
export function isWide(dtype: DType): boolean {
  return dtype === "F32" || dtype === "F64";
}

/** Writes a tensor as BF16. */
function planBf16(wanted: PlannedOutputs, source: SourceTensor, reason: string): PlannedTensor {
  const { name, shape } = source;
  wanted.push({
    info: { name, dtype: "BF16", shape },
    content: { kind: "cast", source, dtype: "BF16" },
  });
  return { source, action: "cast", reason, scheme: null };
}

/** Writes a kept tensor with its LoRAs merged, in its own dtype; an F8 one, too coarse for that, as BF16. */
function planMerged(wanted: PlannedOutputs, source: SourceTensor, reason: string): PlannedTensor {
  const { name, shape, dtype } = source;
  if (dtype === "F8_E4M3" || dtype === "F8_E5M2") {
    wanted.push({
      info: { name, dtype: "BF16", shape },
      content: { kind: "cast", source, dtype: "BF16" },
    });
    return { source, action: "cast", reason: `${reason}; ${dtype} becomes BF16`, scheme: null };
  }
  if (dtype !== "F16" && dtype !== "BF16" && dtype !== "F32") {
    throw new UnsupportedError(
      `Cannot merge a LoRA into tensor ${JSON.stringify(name)}: it is kept as ${dtype}, ` +
        "merged tensors are kept as F16, BF16 or F32, those of F8 as BF16",
    );
  }
  wanted.push({ info: { name, dtype, shape }, content: { kind: "cast", source, dtype } });
  return { source, action: "cast", reason, scheme: null };
}

/** Tensors of the documented layout beside transformed codes. */
function planTransform(
  add: (info: TensorInfo, content: Content) => void,
  base: string,
  { rows, cols, seed }: Transform,
  name: string,
): void {
  const inline = (part: string, dtype: DType, shape: number[], values: ArrayBufferView) =>
    add({ name: `${base}${part}`, dtype, shape }, {
      kind: "inline",
      bytes: bytesOf(values),
    });
  inline("hadamard_quip", "I8", [], Int8Array.of(1));
  inline("hadamard_size_out", "I32", [], Int32Array.of(rows));
  inline("hadamard_size_in", "I32", [], Int32Array.of(cols));
  inline("sign_row", "F32", [rows], randomSigns(rows, { seed, name, side: "row" }));
  inline("sign_col", "F32", [cols], randomSigns(cols, { seed, name, side: "col" }));
}

/** A tensor that is quantized. */
interface QuantizedTensor {
  readonly source: SourceTensor;
  readonly scheme: Scheme;
  readonly options: ConvertOptions;
  /** 1, which the scale of static activations replaces later if there is one. */
  readonly hasInputScale: boolean;
}

function planQuantize(
  { wanted, markers, known }: Pick<Draft, "wanted" | "markers" | "known">,
  { source, scheme, options, hasInputScale }: QuantizedTensor,
): void {
  const { rows, cols } = rowsOf(source.shape);
  const bank = source.shape.length === 3 ? source.shape : null;
  const base = source.name.replace(/weight$/, "");
  const add = (info: TensorInfo, content: Content) => wanted.push({ info, content });
  const grid = layoutOfGrid(scheme, { rows, cols, linearDtype: options.linearDtype });
  if (options.comfyQuant) {
    const { marker, bytes, shape } = knownMarker(known, {
      ...markerOf(scheme, options, { experts: bank?.[0], grid: grid?.marker }),
      // The codes have the padded size: a reader must know the weight's own.
      ...(scheme.transform === undefined ? {} : { out_features: rows, in_features: cols }),
    });
    markers.set(base.replace(/\.$/, ""), marker);
    add({ name: `${base}comfy_quant`, dtype: "U8", shape }, { kind: "inline", bytes });
  }
  if (grid !== null) {
    add({ name: source.name, ...grid.codes }, { kind: "codes", source, scheme });
    for (const { part, dtype, shape, content } of grid.beside) {
      const info = { name: `${base}${part}`, dtype, shape };
      if (typeof content === "string") add(info, { kind: content, source });
      else add(info, { kind: "inline", bytes: bytesOf(content) });
    }
    return;
  }
  planInt8(add, { source, scheme, options, hasInputScale });
}

/** Plans codes of 8 bits with their scales. */
function planInt8(
  add: (info: TensorInfo, content: Content) => void,
  { source, scheme, options, hasInputScale }: QuantizedTensor,
): void {
  const { rows, cols } = rowsOf(source.shape);
  const bank = source.shape.length === 3 ? source.shape : null;
  const base = source.name.replace(/weight$/, "");
  const { transform } = scheme;
  const stored = transform ?? { rows, cols };
  const shape = transform === undefined ? source.shape : [stored.rows, stored.cols];
  add({ name: source.name, dtype: "I8", shape }, { kind: "codes", source, scheme });
  if (options.smoothAlpha !== null && options.target === "ctq") {
    const bytes = new Uint8Array(4 * cols); // made once the weight is known
    add({ name: `${base}${SMOOTH_FACTORS}`, dtype: "F32", shape: [cols] }, {
      kind: "inline",
      bytes,
    });
  }
  if (transform !== undefined) planTransform(add, base, transform, source.name);
  add({
    name: `${base}${options.comfyQuant ? "weight_scale" : "scale_weight"}`,
    dtype: "F32",
    shape: bank === null
      ? scaleShape(scheme, { ...stored, normalizeScales: options.normalizeScales })
      : [...bank.slice(0, 2), 1],
  }, { kind: "scales", source });
  if (hasInputScale) {
    const one = new Uint8Array(new Float32Array([1]).buffer);
    const shape = options.normalizeScales ? [] : [1];
    add({ name: `${base}input_scale`, dtype: "F32", shape }, { kind: "inline", bytes: one });
  }
}

function metadataOf(
  { model, options, requantized }: PlanInput,
  markers: ReadonlyMap<string, Marker>,
): Record<string, string> | null {
  const metadata = { ...model.metadata };
  if (requantized !== undefined) delete metadata[QUANTIZATION_METADATA_KEY];
  if (options.saveQuantMetadata && markers.size > 0) {
    metadata[QUANTIZATION_METADATA_KEY] = quantizationMetadata(markers);
  }
  return model.metadata === null && Object.keys(metadata).length === 0 ? null : metadata;
}
