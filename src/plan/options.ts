/**
 * The options of a conversion, and their defaults. Every door (command line, library, single weights)
 * gets its options from `resolveOptions`, which fills in what stands here.
 */

import type { FitFormat, FitSize } from "./fit/fit_options.ts";
import type { WeightOutput } from "../formats/outputs.ts";
import type { OverrideSources } from "../config/layer_overrides.ts";
import {
  DEFAULT_LEARNED_OPTIONS,
  type LearnedOptimizer,
  type LearnedOptions,
} from "../quant/learned/options.ts";
import type { NamePattern, PresetChoice, Tier } from "../presets/preset.ts";

export type { PresetChoice, Tier };

/** Output of the method `quip`. */
export interface QuipOptions {
  /** Store the codes of the transformed weight, which needs a loader of its own. */
  readonly storeTransformed: boolean;
  /**
   * Codes in original space: `tensor`, one grid per row or tensor, or `block`, one per row and group of
   * columns. null: not asked for, so rows are rotated as in every other method.
   */
  readonly requantScheme: "tensor" | "block" | null;
  /** A scale per row; false asks for one scale per tensor, in original space. */
  readonly perRow: boolean;
  /** Of the random signs. */
  readonly seed: number;
}

/** How the columns of large layers are cut to bound the memory of their Hessians. */
export interface Segments {
  /** Columns from which layers are cut. */
  readonly threshold: number;
  /** Into how many segments. */
  readonly count: number;
}

/** Which LoRAs are merged, and how. */
export interface LoraMergeOptions {
  /** In the order in which they are merged; the n-th counts 0.9^(n-1) if `dampen` is on. */
  readonly paths: readonly string[];
  /** Strength of the LoRAs. */
  readonly scale: number;
  /** Weaken the n-th of several by 0.9^(n-1). */
  readonly dampen: boolean;
  /** Whether layers without a place in the model are an error. */
  readonly strict: boolean;
}

/** Options of one conversion. `null` means: not asked for, use the default of the mode. */
export interface ConvertOptions {
  /** Whose files are written. */
  readonly target: "comfyui" | "ctq";
  /** The format of weights; `fp16` casts what would be quantized. */
  readonly output: WeightOutput;
  /** Columns that share a scale in `w4a8` and `w6a8`. */
  readonly groupSize: number;
  /** Levels of `w4a8`: the table that the runtime has, or one that is fitted to each weight. */
  readonly codebook: "default" | "fit";
  /** Dtype in which `w4a4` multiplies activations. */
  readonly linearDtype: "int4" | "int8";
  /** Weights that share a scale; null: what the target defaults to. */
  readonly scaling: "tensor" | "row" | "block" | null;
  /** Edge of a block in weights. */
  readonly blockSize: number;
  /** Columns that are rotated together, a power of 4; null: by the scaling. */
  readonly convrot: "auto" | "off" | number | null;
  /** Whether scales shrink if that lowers the squared error; null: by the method. */
  readonly scaleSearch: "off" | "mse" | null;
  /** `auto`: gptq for layers with calibration data, else round to nearest with scale search. */
  readonly method: "auto" | "simple" | "gptq" | "quip" | LearnedOptimizer;
  /** How `original`, `adamw` and `radam` learn. */
  readonly learned: LearnedOptions;
  /** Of what is random in them, a whole number from 0 on. */
  readonly seed: number;
  /** Output of `quip`. */
  readonly quip: QuipOptions;
  /** Cut the columns of large layers when errors are compensated; null: never. */
  readonly segments: Segments | null;
  /** Statistics of the layers' inputs; null: none. */
  readonly calibrationPath: string | null;
  /** Fraction of the activation rows, the last ones, that are only measured with: 0 to 0.9. */
  readonly calibrationHoldout: number | null;
  /** Correct biases for what rounding does to the mean output, if real inputs are known. */
  readonly biasCorrection: boolean;
  /** Write the `input_scale` of static activations, if the calibration data has it or inputs. */
  readonly staticActivations: boolean;
  /** A LoRA whose directions weigh more in the errors of outputs; null: none. */
  readonly calibrationLora: string | null;
  /** The alpha of SmoothQuant, 0 to 1; null: no smoothing. */
  readonly smoothAlpha: number | null;
  /** Round the columns of most energy first. The documented default is off; measured, on is better. */
  readonly actOrder: boolean;
  /** Use 16-bit integer error feedback: faster than f32, same quality, a few codes differ. */
  readonly turbo: boolean;
  /** Keep layers that the mode cannot take, instead of falling to row scaling. */
  readonly heur: boolean;
  /** Write `comfy_quant` markers; false: the old `scale_weight` layout. */
  readonly comfyQuant: boolean;
  /** Also list the formats in the header. */
  readonly saveQuantMetadata: boolean;
  /** Ask the loader to multiply in full precision. */
  readonly fullPrecisionMatrixMult: boolean;
  /** Write `input_scale` (F32 scalar 1) beside each quantized weight. */
  readonly inputScale: boolean;
  /** Scalar scales have shape `[]`; false: `[1]`. */
  readonly normalizeScales: boolean;
  /** Layers that it is found in are kept. */
  readonly excludeLayers: RegExp | NamePattern | null;
  /** Overrides of single layers: layer config, custom layers, fallback; null: nothing. */
  readonly layers: OverrideSources | null;
  /** LoRAs that are merged into the model before everything else; null: none. */
  readonly merge: LoraMergeOptions | null;
  /** Reaction to NaN, infinity or overflow. */
  readonly nonfinite: "error" | "keep";
  /** Which layers are kept. */
  readonly preset: PresetChoice;
  /** How many layers of a family are kept. */
  readonly tier: Tier;
  /** Dequantize an already quantized input first; otherwise it is refused. */
  readonly requantize: boolean;
  /** Quantize `lora_A/B/up/down` too. */
  readonly lora: boolean;
  /** Write the output though nothing of it is quantized: a copy, which is refused otherwise. */
  readonly allowCopy: boolean;
  /** Write shards of at most this size, with an index; null: one file. */
  readonly shardBytes: number | null;
  /** Choose the format of each layer so that the output has at most this size; null: `output` says it. */
  readonly fit: FitSize | null;
  /** Choose the format of each layer so that the output is small and its error at most this; null: it is not. */
  readonly maxError: number | null;
  /** What `fit` and `maxError` choose from. */
  readonly fitFormats: readonly FitFormat[];
}

/** The documented defaults. */
export const DEFAULT_CONVERT_OPTIONS: ConvertOptions = Object.freeze<ConvertOptions>({
  target: "comfyui",
  output: "int8",
  groupSize: 16,
  codebook: "default",
  linearDtype: "int4",
  scaling: null,
  blockSize: 128,
  convrot: null,
  scaleSearch: null,
  method: "auto",
  learned: DEFAULT_LEARNED_OPTIONS,
  seed: 0,
  quip: Object.freeze({
    storeTransformed: false,
    requantScheme: null,
    perRow: true,
    seed: 0,
  }),
  segments: null,
  calibrationPath: null,
  calibrationHoldout: null,
  biasCorrection: true,
  staticActivations: false,
  calibrationLora: null,
  smoothAlpha: null,
  actOrder: true,
  turbo: true,
  heur: false,
  comfyQuant: true,
  saveQuantMetadata: false,
  fullPrecisionMatrixMult: false,
  inputScale: false,
  normalizeScales: true,
  excludeLayers: null,
  layers: null,
  merge: null,
  nonfinite: "error",
  preset: { kind: "auto" },
  tier: "balanced",
  requantize: false,
  lora: false,
  allowCopy: false,
  shardBytes: null,
  fit: null,
  maxError: null,
  fitFormats: Object.freeze<FitFormat[]>(["bf16", "int8", "w6a8", "w4a8"]),
});

/** Defaults of `--target ctq` if nothing else is asked: the defaults of the documents. */
export const CTQ_DEFAULTS = Object.freeze(
  { method: "original", scaling: "block", preset: { kind: "none" } } as const,
);

/** The alpha of `--smoothquant`. */
export const SMOOTH_DEFAULTS = Object.freeze({ alpha: 0.5 });

/** How `--quip-checkpointed` cuts. */
export const DEFAULT_SEGMENTS: Segments = Object.freeze({ threshold: 8192, count: 4 });

/** How LoRAs are merged. */
export const DEFAULT_MERGE: Omit<LoraMergeOptions, "paths"> = Object.freeze({
  scale: 1,
  dampen: true,
  strict: false,
});

/** Defaults of what a run is asked beside its options: none of them changes a byte of an output. */
export const RUN_DEFAULTS = Object.freeze({
  /** SQNR in dB below which a layer is reported as low. */
  qualityThresholdDb: 30,
  /** Most workers without a number: beyond this the disk is what limits. */
  maxWorkers: 8,
  /** Synthetic inputs per layer of `calibrate`. */
  calibrationSamples: 256,
  textRows: 1024,
  /** Dtype that `dequantize` writes. */
  outputDtype: "BF16" as "BF16" | "F16" | "F32",
  /** Which files of a folder `batch` takes. */
  batchPattern: "*.safetensors",
  /** Device of the command line. */
  device: "auto" as "auto" | "cpu" | "gpu",
  /** How much is said on stderr. */
  verbosity: "NORMAL",
});

/** The method of a conversion that names none: learned rounding is what the documents have for `ctq`. */
export function methodByDefault(target: ConvertOptions["target"]): ConvertOptions["method"] {
  return target === "ctq" ? CTQ_DEFAULTS.method : DEFAULT_CONVERT_OPTIONS.method;
}
