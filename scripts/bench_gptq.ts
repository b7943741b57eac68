/**
 * Times GPTQ of one square layer with a given Hessian, the whole command line program with reading and
 * writing, in f32 and with --gptq-turbo, beside the same method written with torch (the method alone). The
 * three take turns. Needs a `python3` with torch; without it only our own times are told.
 *
 *     deno run -A scripts/bench_gptq.ts [--size 4096] [--workers 2] [--rounds 3] [--python python3]
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const TORCH = fileURLToPath(new URL("./support/gptq_torch.py", import.meta.url));

/** What is timed. */
export interface GptqBench {
  /** Rows and columns of the layer. */
  readonly size: number;
  readonly workers: number;
  readonly rounds: number;
  /** A Python with torch; null: it is not asked. */
  readonly python: string | null;
  /** What the program is told besides. */
  readonly flags?: readonly string[];
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

/** Best wall times in s. */
export interface GptqTimes {
  /** Of the whole program. */
  readonly own: number;
  /** The same with --gptq-turbo; null where the program was told something else. */
  readonly turbo: number | null;
  /** Of the method in torch; null: there is none. */
  readonly torch: number | null;
}

/** Times them round by round, so that what else the machine does meets all of them. */
export function timeGptq(bench: GptqBench): GptqTimes {
  const { size } = bench;
  const folder = mkdtempSync(join(tmpdir(), "quantsmith-gptq-"));
  try {
    const layer = syntheticLayer({ rows: size, cols: size, seed: 1, rank: 64 });
    const hessian = hessianOf(layer.inputs(64, 1), 64, size);
    const at = (name: string) => join(folder, name);
    writeModel(at("model.safetensors"), [
      tensorOf("blocks.0.lin.weight", "F32", [size, size], layer.weight),
    ]);
    writeModel(at("hessian.safetensors"), [
      tensorOf("blocks.0.lin.hessian", "F32", [size, size], hessian),
    ]);
    writeFileSync(at("w.f32"), new Uint8Array(layer.weight.buffer));
    writeFileSync(at("h.f32"), new Uint8Array(hessian.buffer));
    const turbo = { ...bench, flags: ["--gptq-turbo"] };
    const rounds = Array.from({ length: bench.rounds }, () => ({
      own: timeProgram(at, bench),
      turbo: bench.flags === undefined ? timeProgram(at, turbo) : null,
      torch: timeTorch(at, bench),
    }));
    return {
      own: least(rounds.map(({ own }) => own))!,
      turbo: least(rounds.map(({ turbo }) => turbo)),
      torch: least(rounds.map(({ torch }) => torch)),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Null where nothing was timed. */
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

/** Null where Python or torch is missing. */
function timeTorch(
  at: (name: string) => string,
  { size, workers, python }: GptqBench,
): number | null {
  if (python === null) return null;
  const args = [TORCH, at("w.f32"), at("h.f32"), String(size), String(size), String(workers)];
  const run = spawnSync(python, args, { encoding: "utf8" });
  if (run.status !== 0) return null;
  return (JSON.parse(run.stdout) as { seconds: number }).seconds;
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
  const { own, turbo, torch } = timeGptq({
    size: Number(flags.size),
    workers: Number(flags.workers),
    rounds: Number(flags.rounds),
    python: flags.python,
  });
  const beside = (time: number) =>
    torch === null ? "" : `; torch / this: ${(torch / time).toFixed(2)}`;
  console.log(`quantsmith, whole program: ${own.toFixed(2)} s${beside(own)}`);
  if (turbo !== null) {
    console.log(`the same with --gptq-turbo: ${turbo.toFixed(2)} s${beside(turbo)}`);
  }
  console.log(
    torch === null
      ? `torch: ${flags.python} has none`
      : `torch, the method alone: ${torch.toFixed(2)} s`,
  );
}
