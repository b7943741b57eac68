/** The flags of details: of the format, of learned rounding, of computing on a GPU. */

import { BOOL, type Flag, oneOf, section } from "./flag.ts";

export const ADVANCED_FLAGS: readonly Flag[] = Object.freeze([
  ...section({ page: "advanced", theme: "Format" }, [
    {
      name: "comfy_quant",
      type: BOOL,
      default: "on",
      help:
        "write comfy_quant markers; off: the old scale_weight layout; edit: make them say what " +
        "the header says",
      commands: ["convert", "edit"],
    },
    {
      name: "full_precision_matrix_mult",
      type: BOOL,
      help: "ask the loader to multiply in full precision",
    },
    {
      name: "save-quant-metadata",
      type: BOOL,
      help: "tell the format of every layer in the header, too; edit: --no-... tells it in " +
        "markers only",
      commands: ["convert", "edit"],
    },
    {
      name: "no-normalize-scales",
      type: BOOL,
      help: "write scalar scales with shape [1] instead of []",
    },
    { name: "input_scale", type: BOOL, help: "write an input_scale of 1 beside each weight" },
  ]),
  ...section({ page: "advanced", theme: "Randomness" }, [
    {
      name: "manual_seed",
      type: { kind: "int", min: 0, max: Number.MAX_SAFE_INTEGER },
      help: "seed of the methods that use randomness; rounding to the nearest uses none",
      commands: ["convert", "calibrate"],
    },
  ]),
  ...section({ page: "advanced", theme: "Learned rounding" }, [
    {
      name: "num_iter",
      type: { kind: "int", min: 0 },
      default: "1000",
      help: "most steps per tensor; it stops earlier where nothing is gained",
    },
    { name: "lr", type: { kind: "float", min: 0 }, default: "0.008077", help: "learning rate" },
    {
      name: "top_p",
      type: { kind: "float", min: 0, max: 1 },
      default: "0.2",
      help: "share of the singular directions that count",
    },
    { name: "min_k", type: { kind: "int", min: 1 }, default: "64", help: "fewest directions" },
    { name: "max_k", type: { kind: "int", min: 1 }, default: "1024", help: "most directions" },
    {
      name: "full_matrix",
      type: BOOL,
      help: "full instead of randomized decomposition: exact, and slow for large layers",
    },
    {
      name: "weight-error-limit",
      type: { kind: "float", min: 0, max: 100 },
      default: "0.3",
      help: "how far the SQNR of the weights may fall below that of round to nearest, in dB",
    },
  ]),
  ...section({ page: "advanced", theme: "Learning rate" }, [
    {
      name: "lr_schedule",
      type: oneOf("adaptive", "exponential", "plateau"),
      default: "adaptive",
      help: "how the rate changes",
    },
    {
      name: "lr_gamma",
      type: { kind: "float", min: 0, max: 1 },
      default: "0.99",
      help: "exponential: factor per step",
    },
    {
      name: "lr_patience",
      type: { kind: "int", min: 0 },
      default: "9",
      help: "plateau: steps without improvement before the rate falls",
    },
    {
      name: "lr_factor",
      type: { kind: "float", min: 0, max: 1 },
      default: "0.92",
      help: "plateau: factor by which it falls",
    },
    {
      name: "lr_min",
      type: { kind: "float", min: 0 },
      default: "1e-10",
      help: "plateau: lowest rate",
    },
    {
      name: "lr_cooldown",
      type: { kind: "int", min: 0 },
      default: "6",
      help: "plateau: steps to wait after a fall",
    },
    {
      name: "lr_threshold",
      type: { kind: "float", min: 0 },
      default: "0",
      help: "plateau: least improvement that counts",
    },
    {
      name: "lr_adaptive_mode",
      type: oneOf("simple-reset", "no-reset"),
      default: "simple-reset",
      help: "adaptive: what an improvement does to the counter",
    },
    {
      name: "lr-shape-influence",
      type: { kind: "float", min: 0 },
      default: "1",
      help: "plateau: influence of the layer's aspect ratio",
    },
    {
      name: "lr-threshold-mode",
      type: oneOf("rel", "abs"),
      default: "rel",
      help: "plateau: improvement relative to the loss, or absolute",
    },
    {
      name: "early-stop-loss",
      type: { kind: "float", min: 0 },
      default: "1e-8",
      help: "stop below this loss, 1 being that of round to nearest",
    },
    {
      name: "early-stop-lr",
      type: { kind: "float", min: 0 },
      default: "1e-10",
      help: "stop below this rate",
    },
    {
      name: "early-stop-stall",
      type: { kind: "int", min: 1 },
      default: "1000",
      help: "stop after this many steps without improvement",
    },
  ]),
  ...section({ page: "advanced", theme: "GPU memory (nothing on the CPU)", gpuOnly: true }, [
    {
      name: "streaming-mode",
      type: oneOf("off", "minimal", "balanced", "aggressive", "auto"),
      default: "balanced",
      help: "how large an operation may be before it leaves the GPU",
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
      help: "the same for random orthogonal matrices, by dimension",
    },
    { name: "no-memory-limits", type: BOOL, help: "no checks: everything on the GPU" },
    {
      name: "bf16-compute",
      type: oneOf("auto", "on", "off"),
      default: "auto",
      help: "store errors of GPTQ and LDLQ in half width; auto: where f32 would not fit",
    },
    {
      name: "bf16-threshold",
      type: { kind: "int", min: 0 },
      default: "1000000",
      help: "elements of a layer from which auto may do so",
    },
    {
      name: "bf16-hadamard-threshold",
      type: { kind: "int", min: 0 },
      default: "500000",
      help: "the same for Hadamard transforms",
    },
    {
      name: "bf16-hessian-threshold",
      type: { kind: "int", min: 0 },
      default: "1000000",
      help: "the same for Hessians",
    },
  ]),
]);
