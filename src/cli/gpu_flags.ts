/** The flags of GPU memory, and the environment variables that set their defaults. */

import { UsageError } from "../core/errors.ts";
import { nearMiss } from "../core/nearest.ts";
import {
  DEFAULT_PLACEMENT,
  OPERATION_KINDS,
  type PlacementSettings,
  type StreamingMode,
} from "../run/gpu_placement.ts";
import type { ConvertOptions } from "../plan/options.ts";
import { isLearnedOptimizer } from "../quant/learned/options.ts";
import { FLAGS } from "./flags/table.ts";
import { idleBy, type IdleRule } from "./idle/idle_rule.ts";
import type { Parsed } from "./parse.ts";
import type { ConvertIo } from "./request.ts";
import { readVariable } from "./terminal.ts";

/** Values of variables that are accepted and have no effect. */
const IDLE = null;

/** The documented values of the documented variables, and what they stand for. */
const VARIABLES = Object.freeze(
  {
    ENABLE_MIXED_HADAMARD: { auto: IDLE, "1": IDLE, "0": IDLE },
    MIXED_HADAMARD_DTYPE: { bfloat16: IDLE, float16: IDLE },
    /** The table of modes calls `minimal` the conservative one. */
    STREAMING_AGGRESSIVENESS: {
      conservative: "minimal",
      balanced: "balanced",
      aggressive: "aggressive",
    },
  } as const,
);

type Variable = keyof typeof VARIABLES;

/**
 * Returns what flags and environment ask for; flags win.
 *
 * @throws UsageError if a variable has a value that is not documented.
 */
export function gpuMemoryOf(parsed: Parsed): PlacementSettings {
  variable("ENABLE_MIXED_HADAMARD");
  variable("MIXED_HADAMARD_DTYPE");
  const mode = parsed.string("streaming-mode") as StreamingMode | null;
  const half = parsed.string("bf16-compute") as PlacementSettings["halfWidth"] | null;
  const given = OPERATION_KINDS.flatMap((kind) => {
    const value = parsed.number(`stream-${kind}-threshold`);
    return value === null ? [] : [[kind, value] as const];
  });
  return Object.freeze({
    mode: mode ?? variable("STREAMING_AGGRESSIVENESS") ?? DEFAULT_PLACEMENT.mode,
    thresholds: Object.freeze(Object.fromEntries(given)),
    hasLimits: !parsed.bool("no-memory-limits", !DEFAULT_PLACEMENT.hasLimits),
    halfWidth: half ?? DEFAULT_PLACEMENT.halfWidth,
    halfThreshold: parsed.number("bf16-threshold") ?? DEFAULT_PLACEMENT.halfThreshold,
  });
}

/** The flag value that a variable stands for; null if it is not set. */
function variable<Name extends Variable>(
  name: Name,
): (typeof VARIABLES)[Name][keyof (typeof VARIABLES)[Name]] | null {
  const text = readVariable(name);
  if (text === "") return null;
  const values = VARIABLES[name];
  if (Object.hasOwn(values, text)) return values[text as keyof typeof values];
  const words = Object.keys(values);
  const near = nearMiss(text, words);
  throw new UsageError(
    `Cannot use ${JSON.stringify(text)} for the environment variable ${name}: it takes ` +
      words.join(", ") + (near === null ? "" : `; the nearest is ${near}`),
  );
}

/** Flags and variables that change nothing, one sentence per reason. */
export interface IdleGpuFlags {
  /** Whatever computes. */
  readonly always: readonly string[];
  /** Those that change something on a GPU only; for where it turns out that there is none. */
  readonly onCpu: readonly string[];
}

const ON_CPU = "on the CPU: it concerns computing on a GPU";

/** Returns what of the flags of GPU memory changes nothing. */
export function idleGpuFlags(
  parsed: Parsed,
  options: ConvertOptions,
  io: ConvertIo,
): IdleGpuFlags {
  const flags = FLAGS.filter(({ gpuOnly }) => gpuOnly === true).map(({ name }) => name);
  const names = [...flags, ...Object.keys(VARIABLES)];
  const typed = (name: string): string | null =>
    Object.hasOwn(VARIABLES, name)
      ? readVariable(name) === "" ? null : name
      : parsed.has(name)
      ? `--${name}`
      : null;
  const onCpu: IdleRule = { when: true, names, why: ON_CPU };
  if (io.device === "cpu") return { always: idleBy([onCpu], typed).warnings, onCpu: [] };
  const { warnings, told } = idleBy(gpuRules(parsed, options, names), typed);
  const rest = { ...onCpu, names: names.filter((name) => !told.has(name)) };
  return { always: warnings, onCpu: idleBy([rest], typed).warnings };
}

/** Flags and variables of the documents that are accepted, and have no effect. */
const NEVER_OF_USE: readonly IdleRule[] = [
  {
    when: true,
    names: ["stream-ortho-threshold"],
    why: "here: nothing makes random orthogonal matrices, Hadamard transforms do their work",
  },
  {
    when: true,
    names: [
      "bf16-hadamard-threshold",
      "ENABLE_MIXED_HADAMARD",
      "MIXED_HADAMARD_DTYPE",
      "bf16-hessian-threshold",
    ],
    why: "here: those operations stay in f32, as their results decide codes",
  },
];

function gpuRules(
  parsed: Parsed,
  options: ConvertOptions,
  names: readonly string[],
): IdleRule[] {
  const { method, calibrationPath, calibrationLora, quip, layers, output } = options;
  const hasData = calibrationPath !== null || calibrationLora !== null;
  // Layers that are named may have methods of their own.
  const isMixed = layers !== null;
  const isLarge = isMixed ||
    (output === "int8" && ((hasData && method !== "simple") || quip.storeTransformed));
  const isLearned = isLearnedOptimizer(method) && !isMixed;
  const half = parsed.string("bf16-compute") ?? "auto";
  return [
    {
      when: !isLarge,
      names,
      why: "without calibration data: everything runs in parts that fit any GPU",
    },
    {
      when: isLearned,
      names: [
        "stream-hadamard-threshold",
        "stream-ldlq-threshold",
        "bf16-compute",
        "bf16-threshold",
      ],
      why: "with learned rounding, whose Hessians are all that is large",
    },
    ...NEVER_OF_USE,
    {
      when: half !== "auto",
      names: ["bf16-threshold"],
      why: `with --bf16-compute ${half}: it applies only to --bf16-compute auto`,
    },
    {
      when: parsed.bool("no-memory-limits"),
      names: [
        ...(parsed.string("streaming-mode") === "off" ? [] : ["streaming-mode"]),
        ...OPERATION_KINDS.map((kind) => `stream-${kind}-threshold`),
        "STREAMING_AGGRESSIVENESS",
      ],
      why: "with --no-memory-limits",
    },
    {
      when: parsed.has("streaming-mode"),
      names: ["STREAMING_AGGRESSIVENESS"],
      why: "with --streaming-mode, which wins",
    },
  ];
}
