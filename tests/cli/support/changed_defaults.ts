/**
 * Changes every default before anything reads it, then prints what each door makes of that: help,
 * manual's cell, command line, library. Run as a program of its own: defaults are read at start.
 */

import process from "node:process";

// Defaults are frozen; here they must give way.
Object.freeze = (value: unknown) => value as never;

const options = await import("../../../src/plan/options.ts");
const learned = await import("../../../src/quant/learned/options.ts");
const { DEFAULT_PLACEMENT } = await import("../../../src/run/gpu_placement.ts");

/** Another value of the same kind that the option takes. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  comfyui: "ctq",
  int8: "fp16",
  auto: "gptq",
  balanced: "minimal",
  error: "keep",
  BF16: "F32",
  NORMAL: "VERBOSE",
  "*.safetensors": "*.other",
  "simple-reset": "no-reset",
  rel: "abs",
};

function changed(value: unknown): unknown {
  if (typeof value === "boolean") return !value;
  if (typeof value === "number") return value === 0 ? 0.5 : value / 2;
  if (typeof value === "string") return OTHER_WORDS[value] ?? value;
  return value;
}

type Tree = Record<string, unknown>;

function change(tree: Tree, except: readonly string[] = []): void {
  for (const [key, value] of Object.entries(tree)) {
    if (except.includes(key)) continue;
    if (typeof value === "object" && value !== null) change(value as Tree, except);
    else tree[key] = changed(value);
  }
}

// Options that decide which others count stay: a changed target would hide the others.
change(options.DEFAULT_CONVERT_OPTIONS as unknown as Tree, ["kind", "method", "seed", "output"]);
(options.DEFAULT_CONVERT_OPTIONS as unknown as Tree)["seed"] = 7;
(options.DEFAULT_CONVERT_OPTIONS as unknown as Tree)["target"] = "comfyui";
change(learned.SCHEDULES as unknown as Tree, ["kind"]);
change(options.DEFAULT_SEGMENTS as unknown as Tree);
change(options.DEFAULT_MERGE as unknown as Tree);
change(options.SMOOTH_DEFAULTS as unknown as Tree);
change(options.RUN_DEFAULTS as unknown as Tree);
change(DEFAULT_PLACEMENT as unknown as Tree, ["mode", "halfWidth"]);

const { FLAGS } = await import("../../../src/cli/flags/table.ts");
const { defaultText } = await import("../../../src/cli/flags/flag.ts");
const { commandHelp, helpPage } = await import("../../../src/cli/help.ts");
const { parseArgs } = await import("../../../src/cli/parse.ts");
const { askedConversion } = await import("../../../src/cli/options.ts");
const { resolveOptions } = await import("../../../src/plan/resolve_options.ts");

const layout = { columns: 100, color: false };
const request = askedConversion(parseArgs(["m.safetensors"]));
const on = askedConversion(
  parseArgs(["m.safetensors", "--merge-lora=l.safetensors", "--quip-checkpointed"]),
);
const merge = resolveOptions({ merge: { paths: ["l.safetensors"] }, segments: {} });
process.stdout.write(JSON.stringify({
  defaults: options.DEFAULT_CONVERT_OPTIONS,
  run: options.RUN_DEFAULTS,
  segments: options.DEFAULT_SEGMENTS,
  merge: options.DEFAULT_MERGE,
  placement: DEFAULT_PLACEMENT,
  flags: Object.fromEntries(FLAGS.map((flag) => [flag.name, [flag.option, defaultText(flag)]])),
  help: [
    ...(["standard", "filters", "experimental", "advanced"] as const).flatMap((page) =>
      helpPage(page, layout)
    ),
    ...commandHelp("dequantize", layout),
    ...commandHelp("batch", layout),
    ...commandHelp("ui", layout),
  ].join("\n"),
  commandLine: { options: request.options, io: request.io },
  withMore: { merge: on.options.merge, segments: on.options.segments },
  library: resolveOptions({}),
  libraryWithMore: { merge: merge.merge, segments: merge.segments },
}));
