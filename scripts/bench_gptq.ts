/**
 * Times GPTQ of one square layer with a given Hessian beside the same in torch (`support/gptq_torch.py`), in
 * rounds, so that what else the machine does meets all of them:
 *
 * - the command: the program from its start to its end, with compiling kernels, reading weights and
 *   Hessian, checking every value, looking after the rows, measuring errors, writing; also with errors fed
 *   back in f32 (`--no-gptq-turbo`);
 * - the command of torch: the same from start to end, with importing torch, reading the same files and
 *   writing codes and scales, and without our checks and measures;
 * - the method of torch alone, everything in memory, the better of two in a row: scales, order, damping, factor,
 *   rounding;
 * - our method alone, the same steps on the same arrays: workers have started, kernels are compiled.
 *
 * Needs a `python3` with torch and safetensors; without it only our own times are shown.
 *
 *     deno run -A scripts/bench_gptq.ts [--size 4096] [--workers 2] [--rounds 3] [--python python3]
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Arena, createSharedMemory, LINALG_WORKSPACE_BYTES } from "../src/backend/cpu/arena.ts";
import { compileLinalg } from "../src/backend/cpu/linalg_module.ts";
import { DAMPING_DEFAULT } from "../src/linalg/damping.ts";
import { createTeamControl } from "../src/linalg/team.ts";
import { bytesTaken } from "../src/core/counted_memory.ts";
import { planPackedFactor } from "../src/linalg/packed_factor.ts";
import { GptqTeam } from "../tests/support/gptq_team.ts";
import { syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const TORCH = fileURLToPath(new URL("./support/gptq_torch.py", import.meta.url));

/** Subjects of the timing. */
export interface GptqBench {
  /** Rows and columns of the layer. */
  readonly size: number;
  readonly workers: number;
  readonly rounds: number;
  /** A Python with torch and safetensors; null: it is not asked. */
  readonly python: string | null;
  /** Further flags of the program. */
  readonly flags?: readonly string[];
}

/** A layer and its Hessian, f32. */
interface Layer {
  readonly weight: Float32Array;
  readonly hessian: Float32Array;
}

/** XᵀX / T of inputs of low rank, and a little more on the diagonal. */
function hessianOf(inputs: Float32Array, count: number, size: number): Float32Array {
  const h = new Float32Array(size * size);
  for (let t = 0; t < count; t++) {
    const x = inputs.subarray(t * size, (t + 1) * size);
    for (let i = 0; i < size; i++) {
      const xi = x[i]! / count, row = i * size;
      for (let j = 0; j < size; j++) h[row + j] = h[row + j]! + xi * x[j]!;
    }
  }
  for (let i = 0; i < size; i++) h[i * size + i] = h[i * size + i]! * 1.1;
  return h;
}

/** Least wall times in s. */
export interface GptqTimes {
  /** Of the whole program. */
  readonly command: number;
  /** The same with --no-gptq-turbo; null if the program got another option. */
  readonly exactCommand: number | null;
  /** Of our method alone; null likewise. */
  readonly method: number | null;
  /** Of the whole command of torch; null: there is none. */
  readonly torchCommand: number | null;
  /** Of the method in torch alone; null: there is none. */
  readonly torchMethod: number | null;
}

/** Times them round by round. */
export async function timeGptq(bench: GptqBench): Promise<GptqTimes> {
  const { size } = bench;
  const folder = mkdtempSync(join(tmpdir(), "quantsmith-gptq-"));
  try {
    const { weight, inputs } = syntheticLayer({ rows: size, cols: size, seed: 1, rank: 64 });
    const layer: Layer = { weight, hessian: hessianOf(inputs(64, 1), 64, size) };
    const at = (name: string) => join(folder, name);
    const shape = [size, size];
    writeModel(at("model.safetensors"), [
      tensorOf("blocks.0.lin.weight", "F32", shape, layer.weight),
    ]);
    writeModel(at("hessian.safetensors"), [
      tensorOf("blocks.0.lin.hessian", "F32", shape, layer.hessian),
    ]);
    const exact = { ...bench, flags: ["--no-gptq-turbo"] };
    const rounds = [];
    for (let round = 0; round < bench.rounds; round++) {
      rounds.push({
        command: timeProgram(at, bench),
        exactCommand: bench.flags === undefined ? timeProgram(at, exact) : null,
        torchCommand: timeTorchCommand(at, bench),
        method: bench.flags === undefined ? await timeMethod(layer, bench) : null,
        torchMethod: timeTorchMethod(at, bench),
      });
    }
    return {
      command: least(rounds.map(({ command }) => command))!,
      exactCommand: least(rounds.map(({ exactCommand }) => exactCommand)),
      method: least(rounds.map(({ method }) => method)),
      torchCommand: least(rounds.map(({ torchCommand }) => torchCommand)),
      torchMethod: least(rounds.map(({ torchMethod }) => torchMethod)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Null if nothing was timed. */
function least(times: readonly (number | null)[]): number | null {
  const timed = times.filter((time) => time !== null);
  return timed.length === 0 ? null : Math.min(...timed);
}

function timeProgram(
  at: (name: string) => string,
  { workers, flags = [] }: GptqBench,
): number {
  const start = performance.now();
  execFileSync(process.execPath, [
    ...["run", "-A", MAIN, at("model.safetensors"), at("out.safetensors"), "--force"],
    ...["--calibration-data", at("hessian.safetensors"), "--scaling_mode", "row"],
    ...["--preset", "none", "--no-progress", "--workers", String(workers), "--verbose", "MINIMAL"],
    ...flags,
  ], { stdio: "inherit" });
  return (performance.now() - start) / 1000;
}

/** The seconds of our method from weights and Hessian in f32 to codes and scales, the better of two. */
async function timeMethod(
  { weight, hessian }: Layer,
  { size, workers }: GptqBench,
): Promise<number> {
  const scratchBytes = 16 * 128 * size + 8 * size * size / workers + LINALG_WORKSPACE_BYTES +
    (8 << 20);
  const packed = bytesTaken((memory) => planPackedFactor(memory, size)) + 4096;
  const bytes = 17 * size * size + 4 * size + packed + workers * scratchBytes + 4096;
  const memory = createSharedMemory(bytes);
  const arena = new Arena(memory, 0, bytes - workers * scratchBytes);
  const values = arena.f64(size * size), given = arena.f32(size * size);
  const weights = arena.f32(size * size), codes = arena.i8(size * size);
  const scales = arena.f32(size), base = arena.u8(packed).byteOffset;
  given.set(hessian);
  const team = new GptqTeam(workers), module = compileLinalg();
  let seconds = Infinity;
  for (let run = 0; run < 2; run++) {
    weights.set(weight); // rounding uses them up
    const [times] = await team.run({
      module,
      memory,
      control: createTeamControl(),
      rows: size,
      cols: size,
      blockSize: size,
      weights: weights.byteOffset,
      codes: codes.byteOffset,
      scales: scales.byteOffset,
      hessian: values.byteOffset,
      given: given.byteOffset,
      packed: { base, bytes: packed },
      scratchBase: bytes - workers * scratchBytes,
      scratchBytes,
      actOrder: true,
      damping: DAMPING_DEFAULT,
    });
    const { loadMs, factorMs, roundMs } = times!;
    seconds = Math.min(seconds, (loadMs + factorMs + roundMs) / 1000);
  }
  team.close();
  return seconds;
}

/** Runs the script with what comes after its threads. Null if Python, torch or safetensors is missing. */
function runTorch(
  at: (name: string) => string,
  { workers, python }: GptqBench,
  ...more: readonly string[]
): { readonly seconds: number; readonly stdout: string } | null {
  if (python === null) return null;
  const files = ["model", "hessian", "torch"].map((name) => at(`${name}.safetensors`));
  const start = performance.now();
  const { status, stdout } = spawnSync(python, [TORCH, ...files, String(workers), ...more], {
    encoding: "utf8",
  });
  return status === 0 ? { seconds: (performance.now() - start) / 1000, stdout } : null;
}

/** The whole command. */
function timeTorchCommand(at: (name: string) => string, bench: GptqBench): number | null {
  return runTorch(at, bench)?.seconds ?? null;
}

/** The method alone, the better of two. */
function timeTorchMethod(at: (name: string) => string, bench: GptqBench): number | null {
  const run = runTorch(at, bench, "2");
  return run === null ? null : (JSON.parse(run.stdout) as { seconds: number }).seconds;
}

/** The comparisons. */
export interface GptqComparison {
  readonly what: string;
  /** How many times as long the second of them takes; null: there is no torch. */
  readonly ratio: number | null;
}

/** Returns the ratios of `times`, each named by what it contains. */
export function gptqComparisons(
  { command, method, torchCommand, torchMethod }: GptqTimes,
): GptqComparison[] {
  const over = (torch: number | null, own: number | null) =>
    torch === null || own === null ? null : torch / own;
  return [
    { what: "torch command / GPTQ command", ratio: over(torchCommand, command) },
    { what: "torch method alone / GPTQ method alone", ratio: over(torchMethod, method) },
    { what: "torch method alone / whole GPTQ command", ratio: over(torchMethod, command) },
  ];
}

/** Returns what was measured, by name, in words. */
export function gptqFigures(
  { command, exactCommand, method, torchCommand, torchMethod }: GptqTimes,
): [string, string][] {
  const words = (time: number | null) =>
    time === null ? "not run: no python3 with torch and safetensors" : `${time.toFixed(2)} s`;
  const figures: [string, string | null][] = [
    ["command (start, reading, checks, method, errors, writing)", words(command)],
    ["command with --no-gptq-turbo", exactCommand === null ? null : words(exactCommand)],
    ["torch command (start, reading, method, writing)", words(torchCommand)],
    ["method alone, in memory", method === null ? null : words(method)],
    ["torch method alone, in memory", words(torchMethod)],
  ];
  return figures.filter((figure): figure is [string, string] => figure[1] !== null);
}

if (import.meta.main) {
  const { values: flags } = parseArgs({
    options: {
      size: { type: "string", default: "4096" },
      workers: { type: "string", default: "2" },
      rounds: { type: "string", default: "3" },
      python: { type: "string", default: "python3" },
    },
  });
  const times = await timeGptq({
    size: Number(flags.size),
    workers: Number(flags.workers),
    rounds: Number(flags.rounds),
    python: flags.python,
  });
  for (const [what, figure] of gptqFigures(times)) console.log(`${what}: ${figure}`);
  for (const { what, ratio } of gptqComparisons(times)) {
    if (ratio !== null) console.log(`${what}: ${ratio.toFixed(2)}`);
  }
}
