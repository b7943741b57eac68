/**
 * From a parsed command line to the options of one conversion. Contradictions between flags are refused
 * here; the rest is `resolveOptions`. Flags that change nothing are reported by `idle/`.
 */

import process from "node:process";
import { UsageError } from "../core/errors.ts";
import { compileLayerPattern } from "../config/layer_pattern.ts";
import { ambientPart, parsePart, type Part, partName } from "../convert/parts/part.ts";
import { RUN_DEFAULTS } from "../plan/options.ts";
import { resolveOptions } from "../plan/resolve_options.ts";
import { filesOf, verbosityOf } from "./files.ts";
import { PRESET_FLAGS } from "./flags/table.ts";
import { givenOptions } from "./given_options.ts";
import { flagNames } from "./option_flags.ts";
import { idleFlags } from "./idle/idle_flags.ts";
import { gpuMemoryOf, idleGpuFlags } from "./gpu_flags.ts";
import type { Parsed } from "./parse.ts";
import type { AskedConversion, ConvertIo } from "./request.ts";

export type { AskedConversion, ConvertIo } from "./request.ts";

/**
 * Returns what `parsed` asks for.
 *
 * @throws UsageError if flags contradict one another or the input is missing.
 */
export function askedConversion(parsed: Parsed): AskedConversion {
  refuseContradictions(parsed);
  const options = resolveOptions(givenOptions(parsed), { names: flagNames });
  const io = ioOf(parsed);
  const gpu = idleGpuFlags(parsed, options, io);
  return {
    options,
    io,
    warnings: [...idleFlags(parsed, options, io), ...gpu.always],
    warningsOnCpu: gpu.onCpu,
  };
}

/** Flags that name a file to be read. */
const READ_FLAGS = [
  "layer-config",
  "like",
  "calibration-data",
  "calibration-lora",
  "merge-lora",
] as const;

function ioOf(parsed: Parsed): ConvertIo {
  const { part, partNote } = partOf(parsed);
  const reportPath = reportPathOf(parsed);
  return Object.freeze({
    ...filesOf(parsed),
    readPaths: [
      ...READ_FLAGS.flatMap((name) => parsed.string(name) ?? []),
      ...parsed.list("merge-loras"),
    ],
    force: parsed.bool("force"),
    resume: parsed.bool("resume"),
    part,
    partNote,
    dryRun: parsed.string("dry-run") as ConvertIo["dryRun"],
    json: parsed.bool("json"),
    verify: parsed.bool("verify"),
    workers: parsed.number("workers"),
    memoryLimitBytes: parsed.number("memory-limit"),
    lowMemory: parsed.bool("low-memory"),
    device: deviceOf(parsed),
    gpuMemory: gpuMemoryOf(parsed),
    reportQuality: parsed.bool("report-quality"),
    qualityThreshold: parsed.number("quality-threshold") ?? RUN_DEFAULTS.qualityThresholdDb,
    strict: parsed.bool("strict"),
    progress: parsed.bool("progress", true),
    verbosity: verbosityOf(parsed),
    // All parts of an array are given the same words.
    reportPath: part === null || reportPath === null ? reportPath : partName(reportPath, part),
    reportLayers: reportLayersOf(parsed),
  });
}

/**
 * The part that `--part` names, or without it the array of jobs that this one belongs to, and what to say in the
 * latter case.
 */
export function partOf(parsed: Parsed): { part: Part | null; partNote: string | null } {
  const text = parsed.string("part");
  // A plan is that of the whole model.
  if (text === null && parsed.string("dry-run") !== null) return { part: null, partNote: null };
  const ambient = text === null ? ambientPart(process.env) : null;
  const part = text === null ? ambient?.part ?? null : parsePart(text, process.env);
  if (part !== null && parsed.bool("verify") && parsed.command === "convert") {
    throw new UsageError(
      "Cannot use --verify with --part: a part is no model; `quantsmith verify` checks what `join` " +
        "writes",
    );
  }
  return { part, partNote: ambient?.note ?? null };
}

/** `--low-memory` forces the CPU, as documented; asking for both is refused. */
function deviceOf(parsed: Parsed): ConvertIo["device"] {
  return parsed.bool("low-memory")
    ? "cpu"
    : (parsed.string("device") ?? RUN_DEFAULTS.device) as ConvertIo["device"];
}

function refuseContradictions(parsed: Parsed): void {
  if (parsed.bool("low-memory") && parsed.string("device") === "gpu") {
    throw new UsageError("Cannot use --low-memory with --device gpu: it forces the CPU");
  }
  if (parsed.bool("int8") && parsed.bool("fp16")) {
    throw new UsageError("Cannot use --int8 with --fp16: choose one");
  }
  const format = parsed.string("format");
  for (const name of ["int8", "fp16"] as const) {
    if (format === null || format === name || !parsed.bool(name)) continue;
    throw new UsageError(`Cannot use --${name} with --format ${format}: choose one`);
  }
  const isOther = parsed.bool("fp16") || (format !== null && format !== "int8");
  if (parsed.has("int8") && !parsed.bool("int8") && !isOther) {
    throw new UsageError(
      "Cannot use --no-int8 without --fp16 or another --format: nothing would be converted",
    );
  }
  if (parsed.bool("simple") && parsed.has("optimizer")) {
    throw new UsageError(
      `Cannot use --simple with --optimizer ${parsed.string("optimizer")}: ` +
        "--simple is plain round to nearest",
    );
  }
  if (parsed.bool("no-memory-limits") && parsed.has("memory-limit")) {
    throw new UsageError(
      "Cannot use --no-memory-limits with --memory-limit: the one takes the limits away, the " +
        "other sets one",
    );
  }
  if (
    parsed.string("optimizer") === "quip" && parsed.bool("quip-store-transformed") &&
    !parsed.bool("quip-hadamard", true)
  ) {
    throw new UsageError(
      "Cannot use --no-quip-hadamard with --quip-store-transformed: the stored layout is that of a " +
        "Hadamard transform",
    );
  }
  const choices = [
    ...(parsed.has("preset") ? ["--preset"] : []),
    ...(parsed.has("like") ? ["--like"] : []),
    ...PRESET_FLAGS.filter((name) => parsed.bool(name)).slice(0, 1).map((name) => `--${name}`),
  ];
  if (choices.length > 1) {
    throw new UsageError(`Cannot use ${choices.join(" with ")}: each says which layers to keep`);
  }
}

/** Returns the path of `--report`; null without it. @throws UsageError if its name has no ending of a report. */
export function reportPathOf(parsed: Parsed): string | null {
  const path = parsed.string("report");
  if (path === null || /\.(json|html?)$/i.test(path)) return path;
  throw new UsageError(
    `Cannot write --report ${JSON.stringify(path)}: its name ends with .html or .json`,
  );
}

function reportLayersOf(parsed: Parsed): string | null {
  const source = parsed.string("report-layers");
  // A pattern that cannot be read is refused before the work.
  if (source !== null) compileLayerPattern(source, { place: "--report-layers" });
  return source;
}
