/**
 * The table of modes in docs/benchmarks.md: error, size and time of each on one model, by the command line alone.
 *
 *     deno run -A scripts/bench_modes.ts [--copies 16] [--markdown]
 *
 * The model is made of synthetic layers with outliers (`tests/support/synthetic_layer.ts`): one block of five
 * layers for the methods that take long, `--copies` times the same for the others. Errors are those that
 * `quantsmith verify` reports for inputs that no mode has seen. The time is the
 * processor's, of all threads together, less that of `--dry-run`, per GB of BF16: unlike wall time it hardly
 * depends on what else the machine does. It needs GNU time.
 */

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { f32ToBf16 } from "../src/core/dtype.ts";
import type { Tensor } from "../src/core/tensor.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";
import { syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { GNU_TIME, hasGnuTime } from "./support/measure.ts";
import { renderMarkdown, renderTable } from "./support/table.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const SHAPES = [[3072, 1024], [1024, 1024], [4096, 1024], [1024, 4096], [2048, 2048]] as const;
const CALIBRATION_ROWS = 512, HELD_OUT_ROWS = 128;

/** Name, flags, and whether it takes long: with calibration data, learning, or both. */
const MODES: readonly (readonly [string, readonly string[], "data" | "learns" | "fast"])[] = [
  ["default: rotated rows + scale search", [], "fast"],
  ["default + calibration data (GPTQ)", [], "data"],
  ["rotated rows, nearest", ["--simple"], "fast"],
  ["plain rows, nearest", ["--simple", "--scaling_mode", "row"], "fast"],
  ["plain rows + calibration data (GPTQ)", ["--scaling_mode", "row"], "data"],
  [
    "plain rows, learned + calibration data",
    ["--optimizer", "original", "--scaling_mode", "row"],
    "data",
  ],
  ["one scale per tensor, nearest", ["--simple", "--scaling_mode", "tensor"], "fast"],
  ["2-D blocks of 128, nearest", ["--simple", "--scaling_mode", "block"], "fast"],
  ["2-D blocks of 128, learned (`--target ctq`)", ["--target", "ctq"], "learns"],
  ["F16", ["--fp16"], "fast"],
];

/** Files of the bench. */
export interface ModesOptions {
  readonly folder: string;
  /** Blocks of the model for fast modes. */
  readonly copies: number;
}

function bf16(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, f32ToBf16);
}

/** Writes models, calibration data and other inputs; returns their paths. */
function writeFiles(folder: string, copies: number) {
  const small: Tensor[] = [], large: Tensor[] = [], fitted: Tensor[] = [], heldOut: Tensor[] = [];
  SHAPES.forEach(([rows, cols], index) => {
    const layer = syntheticLayer({ rows, cols, seed: index + 1, rank: 96 });
    const weight = bf16(layer.weight);
    const inputs = bf16(layer.inputs(CALIBRATION_ROWS, 1)),
      others = bf16(layer.inputs(HELD_OUT_ROWS, 2));
    const nameOf = (block: number) => `blocks.${block}.linear_${index}`;
    for (let block = 0; block < copies; block++) {
      large.push(tensorOf(`${nameOf(block)}.weight`, "BF16", [rows, cols], weight));
    }
    small.push(tensorOf(`${nameOf(0)}.weight`, "BF16", [rows, cols], weight));
    fitted.push(tensorOf(`${nameOf(0)}.activations`, "BF16", [CALIBRATION_ROWS, cols], inputs));
    heldOut.push(tensorOf(`${nameOf(0)}.activations`, "BF16", [HELD_OUT_ROWS, cols], others));
  });
  const files = { small, large, fitted, heldOut };
  const paths = Object.entries(files).map(([name, tensors]) => {
    const file = path.join(folder, `${name}.safetensors`);
    writeModel(file, tensors);
    return [name, file] as const;
  });
  return Object.fromEntries(paths) as Record<keyof typeof files, string>;
}

/** Output of the program, and its CPU time. */
export interface Run {
  /** The last JSON value of its output. */
  readonly result: Record<string, unknown>;
  /** User and system time of all threads; NaN without GNU time. */
  readonly cpuSeconds: number;
}

/** Runs the program. Exit code 1 is a verdict of `verify`, not a failure. */
export function run(args: readonly string[]): Run {
  const program = [process.execPath, "run", "-A", MAIN, ...args, "--json", "--workers", "2"];
  const timed = hasGnuTime() ? [GNU_TIME, "-f", "\n%U %S", ...program] : program;
  const { status, stdout, stderr } = spawnSync(timed[0]!, timed.slice(1), {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (status !== 0 && args[0] !== "verify") {
    throw new Error(`Cannot run ${args.join(" ")}: ${stderr}`);
  }
  const [, user = "NaN", system = "NaN"] = /\n([\d.]+) ([\d.]+)\n$/.exec(stderr) ?? [];
  const last = stdout.trim().split("\n").at(-1)!;
  return { result: JSON.parse(last), cpuSeconds: Number(user) + Number(system) };
}

interface VerifiedLayer {
  readonly output: { readonly w8a16: number; readonly w8a8: number | null } | null;
}

function percent(values: readonly number[]): string {
  if (values.length === 0) return "";
  const mean = Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);
  return `${(100 * mean).toFixed(mean < 0.1 ? 2 : 1)} %`;
}

/** Returns the rows of the table, a heading first. */
export function benchModes({ folder, copies }: ModesOptions): string[][] {
  const files = writeFiles(folder, copies);
  const out = path.join(folder, "out.safetensors");
  const flagsOf = (model: string) => [model, "--output", out, "--force", "--preset", "none"];
  const startOf = (model: string) => run([...flagsOf(model), "--dry-run"]).cpuSeconds;
  const starts = { small: startOf(files.small), large: startOf(files.large) };
  const rows = [[
    "mode",
    "weight SQNR",
    "outputs, W8A16",
    "outputs, W8A8",
    "size",
    "processor time per GB",
  ]];
  for (const [name, flags, kind] of MODES) {
    const size = kind === "fast" ? "large" : "small", model = files[size];
    const data = kind === "data" ? ["--calibration-data", files.fitted] : [];
    const { result, cpuSeconds } = run([...flagsOf(model), ...flags, ...data]);
    const quality = result["quality"] as { sqnr_db: number } | null;
    const verified = run(
      ["verify", out, "--source", model, "--calibration-data", files.heldOut],
    );
    const bytes = fs.statSync(model).size;
    const perGb = (cpuSeconds - starts[size]) / (bytes / 1e9);
    const layers = verified.result["layers"] as readonly VerifiedLayer[];
    const outputs = layers.flatMap(({ output }) => output ?? []);
    rows.push([
      name,
      quality === null ? "" : `${quality.sqnr_db.toFixed(1)} dB`,
      percent(outputs.map(({ w8a16 }) => w8a16)),
      percent(outputs.flatMap(({ w8a8 }) => w8a8 ?? [])),
      `${(100 * fs.statSync(out).size / bytes).toFixed(1)} %`,
      `${Number(perGb.toPrecision(2))} s`,
    ]);
    console.error(rows.at(-1)!.join("  "));
  }
  return rows;
}

if (import.meta.main) {
  const { values: flags } = parseArgs({
    options: {
      copies: { type: "string", default: "16" },
      markdown: { type: "boolean", default: false },
    },
  });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-modes-"));
  try {
    const { copies, markdown } = flags;
    const rows = benchModes({ folder, copies: Number(copies) });
    console.log((markdown ? renderMarkdown : renderTable)(rows));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
