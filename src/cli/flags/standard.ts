/** The flags of everyday use: files, mode, what is kept, checks, and how to run. */

import { ROTATION_GROUPS } from "../../quant/rotation_groups.ts";
import { CTQ_DEFAULTS, DEFAULT_CONVERT_OPTIONS, RUN_DEFAULTS } from "../../plan/options.ts";
import { FIT_FORMATS } from "../../plan/fit/fit_options.ts";
import { OUTPUT_HELP, OUTPUTS } from "../../formats/outputs.ts";
import { BOOL, type CommandName, type Flag, oneOf, section } from "./flag.ts";

const EDITING: readonly CommandName[] = ["edit", "migrate"];
const WORKING: readonly CommandName[] = ["convert", "verify", "dequantize", ...EDITING];
const READING: readonly CommandName[] = [...WORKING, "inspect", "calibrate"];
const RUNNING: readonly CommandName[] = [...READING, "presets", "doctor", "join", "compare"];
const EVERY: readonly CommandName[] = [...RUNNING, "completions", "batch", "ui"];

export const STANDARD_FLAGS: readonly Flag[] = Object.freeze([
  ...section({ page: "standard", theme: "Files" }, [
    {
      name: "input",
      aliases: ["-i"],
      type: { kind: "string", place: "FILE" },
      help: "model to read: a safetensors file, a folder of shards, their index, a URL, or " +
        "hf://owner/repo",
      commands: READING,
    },
    {
      name: "output",
      aliases: ["-o"],
      type: { kind: "string", place: "FILE" },
      defaultNote: "named after the input and the mode",
      help: "file to write",
      commands: ["convert", "dequantize", "calibrate", ...EDITING],
    },
    {
      name: "force",
      type: BOOL,
      help: "replace an output that exists",
      commands: ["convert", "join", "dequantize", "calibrate", "compare", ...EDITING],
    },
    {
      name: "part",
      type: { kind: "string", place: "I/N" },
      help:
        "do part I of N only, join makes the output of all; auto, auto/N: from the array of jobs, as " +
        "without the flag; none: do all of it there, too; batch: every N-th model",
      commands: ["convert"],
    },
    {
      name: "shard-size",
      option: "shardBytes",
      type: { kind: "size" },
      help: "write shards of at most this size with an index, as Hugging Face has them: 5GB, 900MB",
      commands: ["convert"],
    },
    {
      name: "resume",
      type: BOOL,
      help: "continue an interrupted run of the same conversion",
      commands: ["convert"],
    },
    {
      name: "requantize",
      option: "requantize",
      type: BOOL,
      help: "accept a quantized input: dequantize it first",
    },
    {
      name: "output-dtype",
      type: oneOf("BF16", "F16", "F32"),
      default: RUN_DEFAULTS.outputDtype,
      help: "dtype of the dequantized weights",
      commands: ["dequantize"],
    },
    {
      name: "source",
      type: { kind: "string", place: "FILE" },
      help:
        "the model that the file was made from: gives the error of every layer, and shapes that " +
        "the file leaves open",
      commands: ["verify", "compare", "dequantize", "migrate"],
    },
  ]),
  ...section({ page: "standard", theme: "Batch", commands: ["batch"] }, [
    {
      name: "inputs",
      type: { kind: "list", place: "FILE..." },
      help: "models to convert: files, indexes, folders, or names with * and ?; also `-i`",
    },
    {
      name: "directory",
      aliases: ["-d"],
      type: { kind: "string", place: "DIR" },
      help: "convert the models of this folder",
    },
    {
      name: "pattern",
      type: { kind: "string", place: "GLOB" },
      default: RUN_DEFAULTS.batchPattern,
      help: "names of the models in a folder",
    },
    {
      name: "output-dir",
      type: { kind: "string", place: "DIR" },
      defaultNote: "beside each model",
      help: "folder of the outputs; it must exist",
    },
    {
      name: "lora-mapping",
      type: { kind: "string", place: "FILE.json" },
      help: "LoRAs to merge, by model: a JSON object of model names to one path or several",
    },
    {
      name: "lora-dir",
      type: { kind: "string", place: "DIR" },
      help: "merge NAME.safetensors or NAME_lora.safetensors of this folder into model NAME",
    },
    {
      name: "dry-run-batch",
      type: BOOL,
      help: "show what would be done with each model, and do nothing",
    },
    { name: "yes", aliases: ["-y"], type: BOOL, help: "do not ask whether to proceed" },
  ]),
  ...section({ page: "standard", theme: "Mode" }, [
    {
      name: "format",
      option: "output",
      type: oneOf(...OUTPUTS),
      help: OUTPUT_HELP,
      commands: ["convert", "migrate"],
    },
    {
      name: "group-size",
      option: "groupSize",
      type: { kind: "int", min: 16, max: 256 },
      help: "w4a8, w6a8: columns under one scale; 16 is read by the fastest kernel",
      commands: ["convert", "migrate"],
    },
    {
      name: "codebook",
      option: "codebook",
      type: oneOf("default", "fit"),
      help:
        "w4a8: levels of the table that the runtime has, or of one fitted to each weight, which " +
        "loses less and misses the fastest kernel",
    },
    {
      name: "linear-dtype",
      option: "linearDtype",
      type: oneOf("int4", "int8"),
      help: "w4a4: what activations are multiplied in; int8 loses less, and runs on NVIDIA only",
      commands: ["convert", "migrate"],
    },
    {
      name: "fit",
      type: { kind: "string", place: "SIZE|SHARE" },
      help:
        "choose the format of each layer: least error for an output of at most 12GB, or 70% of the " +
        "input",
    },
    {
      name: "max-error",
      option: "maxError",
      type: { kind: "float", min: 0 },
      help:
        "choose the format of each layer: the smallest output whose mean relative error is at most " +
        "this; 0.01 is 1 %",
    },
    {
      name: "fit-formats",
      type: { kind: "string", place: "LIST" },
      defaultNote: DEFAULT_CONVERT_OPTIONS.fitFormats.join(","),
      help: `what --fit and --max-error choose from: ${FIT_FORMATS.join(", ")}`,
    },
    { name: "int8", type: BOOL, default: true, help: "the same as --format int8" },
    { name: "fp16", type: BOOL, help: "the same as --format fp16" },
    {
      name: "target",
      option: "target",
      type: oneOf("comfyui", "ctq"),
      help: "write what stock ComfyUI loads, or what convert_to_quant writes",
    },
    {
      name: "scaling_mode",
      option: "scaling",
      type: oneOf("tensor", "axis", "row", "block"),
      defaultNote: `row; ${CTQ_DEFAULTS.scaling} with --target ctq`,
      help: "weights that share a scale: all, a row (axis means the same), a square block",
    },
    {
      name: "block_size",
      option: "blockSize",
      type: { kind: "int", min: 1, max: 65536 },
      help: "edge of a block in weights, for --scaling_mode block",
    },
    {
      name: "convrot",
      option: "convrot",
      type: { kind: "optional", words: ["auto", "off"], digits: "GROUP", alone: "auto" },
      defaultNote: "auto; off with an explicit --scaling_mode",
      help:
        "rotate groups of a row before rounding, as ComfyUI runs it natively; GROUP is a power " +
        `of 4, auto the largest of ${ROTATION_GROUPS.join(", ")} that fits`,
    },
    {
      name: "simple",
      type: BOOL,
      help: "plain round to nearest, without scale search",
    },
    {
      name: "scale-search",
      option: "scaleSearch",
      type: oneOf("off", "mse"),
      defaultNote: "mse; off with --simple",
      help: "shrink each scale if that lowers the squared error",
    },
    {
      name: "optimizer",
      type: oneOf("original", "adamw", "radam", "gptq", "quip"),
      defaultNote: `none; ${CTQ_DEFAULTS.method} with --target ctq`,
      help: "method to choose codes better than by rounding to nearest",
    },
  ]),
  ...section({ page: "standard", theme: "Layers" }, [
    {
      name: "preset",
      type: { kind: "string", place: "NAME" },
      default: DEFAULT_CONVERT_OPTIONS.preset.kind,
      help: "which layers to keep: auto (detected), none, or a name of `quantsmith presets list`",
      commands: ["convert", "calibrate"],
    },
    {
      name: "tier",
      option: "tier",
      type: oneOf("minimal", "balanced", "conservative"),
      help: "how many layers of a model family are kept",
      commands: ["convert", "calibrate"],
    },
    {
      name: "like",
      type: { kind: "string", place: "FILE" },
      help: "quantize the layers that this quantized file has quantized, in its formats",
    },
    {
      name: "exclude-layers",
      option: "excludeLayers",
      type: { kind: "string", place: "REGEX" },
      help: "keep the tensors whose name matches",
      commands: ["convert", "calibrate"],
    },
    {
      name: "heur",
      option: "heur",
      type: BOOL,
      help: "keep layers that the mode does not fit, instead of plain row scaling",
    },
    {
      name: "allow-copy",
      option: "allowCopy",
      type: BOOL,
      help: "write the output even if nothing in it would be quantized: a copy",
    },
    {
      name: "nonfinite",
      option: "nonfinite",
      type: oneOf("error", "keep"),
      help: "NaN, infinity or overflow in a weight: stop, or keep that tensor as it is",
    },
  ]),
  ...section({ page: "standard", theme: "Checks" }, [
    {
      name: "dry-run",
      type: { kind: "optional", words: ["analyze", "full", "create-template"], alone: "analyze" },
      help: "plan only: print groups of like layers, every layer (full), or write a layer " +
        "configuration to edit",
      commands: ["convert", ...EDITING],
    },
    {
      name: "report-quality",
      type: BOOL,
      help: "print the errors of the worst ten layers and of all together",
    },
    {
      name: "quality-threshold",
      type: { kind: "float", min: -1000, max: 1000 },
      default: RUN_DEFAULTS.qualityThresholdDb,
      help: "SQNR in dB below which --report-quality warns, and --strict exits 1",
      commands: ["convert", "verify"],
    },
    {
      name: "report",
      type: { kind: "string", place: "FILE.html|FILE.json" },
      help: "write a report of the conversion and its quality: a page with charts, or JSON",
      commands: ["convert", "compare", "join"],
    },
    {
      name: "report-layers",
      type: { kind: "string", place: "REGEX" },
      defaultNote: "the worst six",
      help: "layers whose codes --report FILE.html shows",
    },
    {
      name: "verify",
      type: BOOL,
      help: "read the output back and check it as the loader would",
    },
    {
      name: "strict",
      type: BOOL,
      help: "exit 1 if a layer is below the quality threshold",
      commands: ["convert", "verify"],
    },
  ]),
  ...section({ page: "standard", theme: "Running" }, [
    {
      name: "device",
      type: oneOf("auto", "cpu", "gpu"),
      default: RUN_DEFAULTS.device,
      help: "device to compute on",
      commands: ["convert"],
    },
    {
      name: "workers",
      type: { kind: "int", min: 1, max: 64 },
      defaultNote: `the number of cores, at most ${RUN_DEFAULTS.maxWorkers}`,
      help: "number of threads; the output is the same for any number",
      commands: [...WORKING, "calibrate", "compare"],
    },
    {
      name: "memory-limit",
      type: { kind: "size" },
      help: "maximum memory to plan for: bytes, 500MB, 2GiB",
      commands: [...WORKING, "calibrate"],
    },
    {
      name: "low-memory",
      type: BOOL,
      help: "the CPU, one chunk at a time",
      commands: [...WORKING, "calibrate"],
    },
    {
      name: "port",
      type: { kind: "int", min: 0, max: 65535 },
      defaultNote: "a free one",
      help: "port of the page on 127.0.0.1",
      commands: ["ui"],
    },
    {
      name: "open",
      type: BOOL,
      default: true,
      help: "open the page in the browser",
      commands: ["ui"],
    },
    {
      name: "json",
      type: BOOL,
      help: "JSON on stdout, one event per line for a conversion",
      commands: RUNNING,
    },
    {
      name: "progress",
      type: BOOL,
      default: true,
      help: "show progress on stderr",
      commands: [...WORKING, "calibrate", "join", "compare"],
    },
    {
      name: "verbose",
      type: {
        kind: "optional",
        words: ["MINIMAL", "NORMAL", "VERBOSE", "DEBUG"],
        alone: "VERBOSE",
      },
      default: RUN_DEFAULTS.verbosity,
      help: "amount of messages on stderr",
      commands: EVERY,
    },
    {
      name: "quiet",
      aliases: ["-q"],
      type: BOOL,
      help: "print warnings and errors only, like --verbose MINIMAL",
      commands: EVERY,
    },
    {
      name: "version",
      aliases: ["-V"],
      type: BOOL,
      help: "print the version",
      commands: EVERY,
    },
  ]),
  ...section({ page: "standard", theme: "Help", commands: EVERY }, [
    { name: "help", aliases: ["-h"], type: BOOL, help: "this page" },
    {
      name: "help-filters",
      aliases: ["-hf"],
      type: BOOL,
      help: "layers by model and by pattern",
    },
    {
      name: "help-experimental",
      aliases: ["-he"],
      type: BOOL,
      help: "calibration, GPTQ, QuIP, LoRA merging, editing",
    },
    {
      name: "help-advanced",
      aliases: ["-ha"],
      type: BOOL,
      help: "details of the format, learned rounding, GPU memory",
    },
  ]),
]);
