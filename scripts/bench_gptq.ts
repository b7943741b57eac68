/**
 * Times GPTQ of one square layer with a given Hessian, the whole command line program with reading and
 * writing, beside the same method written with torch (the method alone). Needs a `python3` with torch;
 * without it only our own time is told.
 *
 *     deno run -A scripts/bench_gptq.ts [--size 4096] [--workers 2] [--rounds 3] [--python python3]
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { syntheticLayer } from "../tests/support/synthetic_layer.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "4096" },
    workers: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" },
    python: { type: "string", default: "python3" },
  },
});
const size = Number(flags.size);
const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const TORCH = fileURLToPath(new URL("./support/gptq_torch.py", import.meta.url));

/** XᵀX / T of inputs of low rank plus noise. */
function hessianOf(inputs: Float32Array, count: number): Float32Array {
  const h = new Float32Array(size * size);
  for (let t = 0; t < count; t++) {
    const x = inputs.subarray(t * size, (t + 1) * size);
    for (let i = 0; i < size; i++) {
      const xi = x[i]! / count;
      const row = i * size;
      for (let j = 0; j < size; j++) h[row + j] = h[row + j]! + xi * x[j]!;
    }
  }
  for (let i = 0; i < size; i++) h[i * size + i] = h[i * size + i]! * 1.1;
  return h;
}

const folder = mkdtempSync(join(tmpdir(), "quantsmith-gptq-"));
try {
  const layer = syntheticLayer({ rows: size, cols: size, seed: 1, rank: 64 });
  const hessian = hessianOf(layer.inputs(64, 1), 64);
  const input = join(folder, "model.safetensors"), data = join(folder, "hessian.safetensors");
  const output = join(folder, "out.safetensors");
  writeModel(input, [tensorOf("blocks.0.lin.weight", "F32", [size, size], layer.weight)]);
  writeModel(data, [tensorOf("blocks.0.lin.hessian", "F32", [size, size], hessian)]);
  const own: number[] = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    const start = performance.now();
    execFileSync(process.execPath, [
      "run",
      "-A",
      MAIN,
      input,
      output,
      "--calibration-data",
      data,
      ...["--scaling_mode", "row", "--preset", "none", "--force", "--no-progress"],
      ...["--workers", flags.workers, "--verbose", "MINIMAL"],
    ], { stdio: "inherit" });
    own.push((performance.now() - start) / 1000);
  }
  const best = Math.min(...own);
  console.log(`quantsmith, whole program: ${best.toFixed(2)} s (best of ${own.length})`);
  console.log(`output: ${statSync(output).size} bytes`);
  const files = [join(folder, "w.f32"), join(folder, "h.f32")];
  writeFileSync(files[0]!, new Uint8Array(layer.weight.buffer));
  writeFileSync(files[1]!, new Uint8Array(hessian.buffer));
  compare(best, files);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function compare(best: number, files: readonly string[]): void {
  let printed: string;
  try {
    const args = [TORCH, ...files, String(size), String(size), flags.workers];
    printed = execFileSync(flags.python, args, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch (error) {
    console.log(`torch: could not be run (${(error as Error).message.split("\n")[0]})`);
    return;
  }
  const { seconds } = JSON.parse(printed) as { seconds: number };
  console.log(`torch, the method alone: ${seconds.toFixed(2)} s (best of 2)`);
  console.log(`torch / quantsmith: ${(seconds / best).toFixed(2)}`);
}
