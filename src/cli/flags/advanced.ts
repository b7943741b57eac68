/** The flags of details: of the format, of learned rounding, of computing on a GPU. */

import { DEFAULT_CONVERT_OPTIONS } from "../../plan/options.ts";
import { SCHEDULES } from "../../quant/learned/options.ts";
import { DEFAULT_PLACEMENT } from "../../run/placement_settings.ts";
import { BOOL, type Flag, oneOf, section } from "./flag.ts";

export const ADVANCED_FLAGS: readonly Flag[] = Object.freeze([
  ...section({ page: "advanced", theme: "Format" }, [
    {
      name: "comfy_quant",
      option: "comfyQuant",
      type: BOOL,
      help:
        "write comfy_quant markers; off: the old scale_weight layout; edit: make them agree with " +
        "the header says",
      commands: ["convert", "edit"],
    },
    {
      name: "full_precision_matrix_mult",
      option: "fullPrecisionMatrixMult",
      type: BOOL,
      help: "ask the loader to multiply in full precision",
    },
    {
      name: "save-quant-metadata",
      option: "saveQuantMetadata",
      type: BOOL,
      help: "also list each layer's format in the file header; edit: --no-... keeps it in " +
        "markers only",
      commands: ["convert", "edit"],
    },
    {
      name: "no-normalize-scales",
      option: "normalizeScales",
      type: BOOL,
      help: "write scalar scales with shape [1] instead of []",
    },
    {
      name: "input_scale",
      option: "inputScale",
      type: BOOL,
      help: "write an input_scale of 1 beside each weight",
    },
  ]),
  ...section({ page: "advanced", theme: "Randomness" }, [
    {
      name: "manual_seed",
      option: "seed",
      type: { kind: "int", min: 0, max: Number.MAX_SAFE_INTEGER },
      help: "seed of the methods that use randomness; rounding to the nearest uses none",
      commands: ["convert", "calibrate"],
    },
  ]),
  ...section({ page: "advanced", theme: "Learned rounding" }, [
    {
      name: "num_iter",
      option: "learned.iterations",
      type: { kind: "int", min: 0 },
      help: "maximum steps per tensor; stops early when the loss stops improving",
    },
    { name: "lr", option: "learned.lr", type: { kind: "float", min: 0 }, help: "learning rate" },
    {
      name: "top_p",
      option: "learned.topP",
      type: { kind: "float", min: 0, max: 1 },
      help: "share of the singular directions that count",
    },
    {
      name: "min_k",
      option: "learned.minDirections",
      type: { kind: "int", min: 1 },
      help: "minimum number of directions",
    },
    {
      name: "max_k",
      option: "learned.maxDirections",
      type: { kind: "int", min: 1 },
      help: "maximum number of directions",
    },
    {
      name: "full_matrix",
      option: "learned.fullMatrix",
      type: BOOL,
      help: "full instead of randomized decomposition: exact, and slow for large layers",
    },
    {
      name: "weight-error-limit",
      option: "learned.errorLimitDb",
      type: { kind: "float", min: 0, max: 100 },
      help: "how far the SQNR of the weights may fall below that of round to nearest, in dB",
    },
  ]),
  ...section({ page: "advanced", theme: "Learning rate" }, [
    {
      name: "lr_schedule",
      type: oneOf("adaptive", "exponential", "plateau"),
      default: DEFAULT_CONVERT_OPTIONS.learned.schedule.kind,
      help: "how the rate changes",
    },
    {
      name: "lr_gamma",
      type: { kind: "float", min: 0, max: 1 },
      default: SCHEDULES.exponential.gamma,
      help: "exponential: factor per step",
    },
    {
      name: "lr_patience",
      type: { kind: "int", min: 0 },
      default: SCHEDULES.plateau.patience,
      help: "plateau: steps without improvement before the rate falls",
    },
    {
      name: "lr_factor",
      type: { kind: "float", min: 0, max: 1 },
      default: SCHEDULES.plateau.factor,
      help: "plateau: factor by which it falls",
    },
    {
      name: "lr_min",
      type: { kind: "float", min: 0 },
      default: SCHEDULES.plateau.min,
      help: "plateau: lowest rate",
    },
    {
      name: "lr_cooldown",
      type: { kind: "int", min: 0 },
      default: SCHEDULES.plateau.cooldown,
      help: "plateau: steps to wait after a fall",
    },
    {
      name: "lr_threshold",
      type: { kind: "float", min: 0 },
      default: SCHEDULES.plateau.threshold,
      help: "plateau: least improvement that counts",
    },
    {
      name: "lr_adaptive_mode",
      type: oneOf("simple-reset", "no-reset"),
      default: SCHEDULES.adaptive.mode,
      help: "adaptive: effect of an improvement on the counter",
    },
    {
      name: "lr-shape-influence",
      type: { kind: "float", min: 0 },
      default: SCHEDULES.plateau.shapeInfluence,
      help: "plateau: influence of the layer's aspect ratio",
    },
    {
      name: "lr-threshold-mode",
      type: oneOf("rel", "abs"),
      default: SCHEDULES.plateau.thresholdMode,
      help: "plateau: improvement relative to the loss, or absolute",
    },
    {
      name: "early-stop-loss",
      option: "learned.stopLoss",
      type: { kind: "float", min: 0 },
      help: "stop below this loss, 1 being that of round to nearest",
    },
    {
      name: "early-stop-lr",
      option: "learned.stopLr",
      type: { kind: "float", min: 0 },
      help: "stop below this rate",
    },
    {
      name: "early-stop-stall",
      option: "learned.stopStall",
      type: { kind: "int", min: 1 },
      help: "stop after this many steps without improvement",
    },
  ]),
  ...section({ page: "advanced", theme: "GPU memory (nothing on the CPU)", gpuOnly: true }, [
    {
      name: "streaming-mode",
      type: oneOf("off", "minimal", "balanced", "aggressive", "auto"),
      default: DEFAULT_PLACEMENT.mode,
      help: "limit for operations on the GPU; larger ones run on the CPU",
    },
    {
      name: "stream-hadamard-threshold",
      type: { kind: "int", min: 0 },
      help: "the same for Hadamard transforms, in elements",
    },
    {
      name: "stream-hessian-threshold",
      type: { kind: "int", min: 0 },
      help: "the same for Hessians, by dimension",
    },
    {
      name: "stream-ldlq-threshold",
      type: { kind: "int", min: 0 },
      help: "the same for LDLQ, by dimension",
    },
    {
      name: "stream-ortho-threshold",
      type: { kind: "int", min: 0 },
      help: "accepted, no effect: nothing makes random orthogonal matrices",
    },
    {
      name: "no-memory-limits",
      type: BOOL,
      default: !DEFAULT_PLACEMENT.hasLimits,
      help: "no checks: everything on the GPU",
    },
    {
      name: "bf16-compute",
      type: oneOf("auto", "on", "off"),
      default: DEFAULT_PLACEMENT.halfWidth,
      help: "store rounding errors of GPTQ and LDLQ in 16 bits; auto: if f32 would not fit",
    },
    {
      name: "bf16-threshold",
      type: { kind: "int", min: 0 },
      default: DEFAULT_PLACEMENT.halfThreshold,
      help: "elements of a layer from which auto may do so",
    },
    {
      name: "bf16-hadamard-threshold",
      type: { kind: "int", min: 0 },
      help: "accepted, no effect: Hadamard transforms stay in f32",
    },
    {
      name: "bf16-hessian-threshold",
      type: { kind: "int", min: 0 },
      help: "accepted, no effect: Hessians stay in f32",
    },
  ]),
]);
