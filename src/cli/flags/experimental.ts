/** The flags of data-driven methods, LoRA merging and editing. */

import {
  DEFAULT_CONVERT_OPTIONS,
  DEFAULT_MERGE,
  DEFAULT_SEGMENTS,
  RUN_DEFAULTS,
  SMOOTH_DEFAULTS,
} from "../../plan/options.ts";
import { BOOL, type Flag, oneOf, section } from "./flag.ts";

export const EXPERIMENTAL_FLAGS: readonly Flag[] = Object.freeze([
  ...section({ page: "experimental", theme: "Calibration" }, [
    {
      name: "calibration-data",
      option: "calibrationPath",
      type: { kind: "string", place: "FILE" },
      help: "recorded inputs of each layer: safetensors or JSON with LAYER.activations, " +
        "LAYER.hessian or LAYER.channel_max; makes gptq the method of those layers, and verify " +
        "measure their outputs",
      commands: ["convert", "verify"],
    },
    {
      name: "calibration-holdout",
      option: "calibrationHoldout",
      type: { kind: "float", min: 0, max: 0.9 },
      defaultNote: "an eighth, at most 64 rows",
      help: "share of the activation rows, the last ones, that nothing is fitted to, 0: none",
      commands: ["convert", "verify"],
    },
    {
      name: "bias-correction",
      option: "biasCorrection",
      type: BOOL,
      help: "correct biases for the shift of the mean output, if real inputs are known",
    },
    {
      name: "static-activations",
      option: "staticActivations",
      type: BOOL,
      help: "write the input_scale of the calibration data, or that of its activations",
    },
  ]),
  ...section({ page: "experimental", theme: "Calibration" }, [
    {
      name: "calibration-lora",
      option: "calibrationLora",
      type: { kind: "string", place: "FILE" },
      help: "steer the rounding by the input directions that a LoRA uses; besides " +
        "--calibration-data, or without",
      commands: ["convert", "calibrate"],
    },
    {
      name: "calib_samples",
      type: { kind: "int", min: 1, max: 65536 },
      defaultNote: `${RUN_DEFAULTS.calibrationSamples}, with --texts ${RUN_DEFAULTS.textRows}`,
      help: "number of inputs per layer: synthetic ones, or of --texts",
      commands: ["convert", "calibrate"],
    },
    {
      name: "texts",
      type: { kind: "string", place: "FILE" },
      help:
        "run these texts through the text encoder and record what its layers take in: one text " +
        "per line, or a JSON array of strings",
      commands: ["calibrate"],
    },
    {
      name: "tokenizer",
      type: { kind: "string", place: "FILE" },
      help: "tokenizer.json of the text encoder, from its repository; for --texts",
      commands: ["calibrate"],
    },
  ]),
  ...section({ page: "experimental", theme: "SmoothQuant" }, [
    {
      name: "smoothquant",
      type: BOOL,
      help:
        "move outlier channels from the inputs of linear layers into their weights: folded into the " +
        "norm or layer before (text encoders); --target ctq stores the factors",
    },
    {
      name: "smoothquant-alpha",
      type: { kind: "float", min: 0, max: 1 },
      default: SMOOTH_DEFAULTS.alpha,
      help: "share of the inputs' differences that moves into the weights: 1 is all of it, 0 none",
    },
  ]),
  ...section({ page: "experimental", theme: "GPTQ" }, [
    {
      name: "gptq-actorder",
      type: BOOL,
      default: DEFAULT_CONVERT_OPTIONS.actOrder,
      help: "round the columns of the largest activations first",
    },
    {
      name: "gptq-fast",
      type: BOOL,
      help: "accepted for compatibility; no effect",
    },
    {
      name: "gptq-turbo",
      option: "turbo",
      type: BOOL,
      help: "feed errors back in integers: faster, same quality, a few codes differ; " +
        "also with --optimizer quip; no effect on a GPU",
    },
  ]),
  ...section({ page: "experimental", theme: "QuIP" }, [
    {
      name: "quip-actorder",
      type: BOOL,
      default: DEFAULT_CONVERT_OPTIONS.actOrder,
      help: "columns in the order of their activations",
    },
    {
      name: "quip-hadamard",
      type: BOOL,
      default: true,
      help: "Hadamard transform; the only one of --quip-store-transformed",
    },
    {
      name: "quip-seed",
      option: "quip.seed",
      defaultNote: "that of --manual_seed",
      type: { kind: "int", min: 0 },
      help: "seed of the random signs",
    },
    {
      name: "quip-store-transformed",
      option: "quip.storeTransformed",
      type: BOOL,
      help: "store the transformed weights, in a layout that needs its own loader",
    },
    {
      name: "quip-requant-scheme",
      option: "quip.requantScheme",
      defaultNote: "none: rows are rotated",
      type: oneOf("tensor", "block"),
      help: "codes in original space, not rotated: tensor (see below), or a scale per row and " +
        "block_size columns",
    },
    {
      name: "quip-requant-tensor-per-row",
      option: "quip.perRow",
      type: BOOL,
      help: "one scale per row instead of one per tensor",
    },
    {
      name: "quip-checkpointed",
      type: BOOL,
      help: "cut the columns of large layers into segments: 8 K^2 / S bytes for the Hessian",
    },
    {
      name: "quip-checkpoint-threshold",
      type: { kind: "int", min: 1 },
      default: DEFAULT_SEGMENTS.threshold,
      help: "layer dimension from which segments are used",
    },
    {
      name: "quip-checkpoint-segments",
      type: { kind: "int", min: 1 },
      default: DEFAULT_SEGMENTS.count,
      help: "number of segments",
    },
  ]),
  ...section({ page: "experimental", theme: "LoRA merging" }, [
    {
      name: "merge-lora",
      type: { kind: "string", place: "FILE" },
      help: "merge a LoRA before quantizing; --strict refuses one that does not fit in full",
    },
    {
      name: "merge-loras",
      type: { kind: "list", place: "FILE..." },
      help: "merge several LoRAs, in this order",
    },
    {
      name: "merge-lora-scale",
      type: { kind: "float" },
      default: DEFAULT_MERGE.scale,
      help: "strength of the merged LoRAs",
    },
    {
      name: "merge-lora-dampen",
      type: BOOL,
      default: DEFAULT_MERGE.dampen,
      help: "weaken the n-th of several LoRAs by 0.9^(n-1)",
    },
  ]),
  ...section({ page: "experimental", theme: "Editing" }, [
    {
      name: "edit-quant",
      type: BOOL,
      help: "edit a quantized file instead of converting: the same as `quantsmith edit`",
    },
  ]),
  ...section({ page: "experimental", theme: "Editing", commands: ["convert", "edit"] }, [
    {
      name: "remove-keys",
      type: { kind: "string", place: "NAMES" },
      help: "names to remove, separated by commas: tensors, keys of the layers' " +
        "markers, or .NAME for that tensor of every layer, as in .input_scale",
    },
    {
      name: "add-keys",
      type: { kind: "string", place: "PAIRS" },
      help: "marker keys to add or replace, as in \"'group_size': 64, 'note': 'mine'\"",
    },
    {
      name: "quant-filter",
      type: { kind: "string", place: "REGEX" },
      help: "edit only the layers that match; tensors named by --remove-keys go in any case",
    },
  ]),
]);
