/**
 * Measures the binary that Bun builds beside `deno run` of the same checkout: size, start-up, a
 * conversion. Prints a table with PASS or MISS; exits 1 if a target is missed.
 *
 *     deno run -A scripts/bench_binary.ts [--gb 1] [--rounds 5]
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { fluxLikeOfBytes, MODEL_SIZES } from "../tests/support/synthetic_shapes.ts";
import { binaryPath, hostTarget } from "./support/binaries.ts";
import { measure, median } from "./support/measure.ts";
import { renderTable } from "./support/table.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** The targets. */
const LIMITS = { megabytes: 120, helpSeconds: 0.1, ratio: 1.2 };

const { values: flags } = parseArgs({
  options: { gb: { type: "string", default: "1" }, rounds: { type: "string", default: "5" } },
});

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-bench-"));
const rows: string[][] = [["what", "measured", "target", "verdict"]];
let missed = 0;
function judge(what: string, figure: string, target: string, holds: boolean): void {
  if (!holds) missed++;
  rows.push([what, figure, target, holds ? "PASS" : "MISS"]);
}

try {
  const build = ["run", "-A", path.join(ROOT, "scripts/compile_bun.ts"), "--out", folder];
  execFileSync(process.execPath, build, { stdio: ["ignore", "ignore", "inherit"] });
  const binary = binaryPath(folder, "quantsmith-bun", hostTarget());
  const megabytes = fs.statSync(binary).size / 1e6;
  const most = LIMITS.megabytes;
  judge("size", `${megabytes.toFixed(1)} MB`, `< ${most} MB`, megabytes < most);

  const starts: number[] = [];
  for (let k = 0; k < 10; k++) starts.push((await measure(binary, ["--help"])).seconds);
  const start = median(starts.slice(1)); // the first reads the binary from the disk
  const limit = LIMITS.helpSeconds;
  judge(
    "--help, median of 9",
    `${(1000 * start).toFixed(0)} ms`,
    `< ${1000 * limit} ms`,
    start < limit,
  );

  const model = path.join(folder, "model.safetensors");
  writeSyntheticModel(model, fluxLikeOfBytes(MODEL_SIZES.bench, Number(flags.gb) * 1e9));
  const output = path.join(folder, "out.safetensors");
  const args = [model, output, "--force", "--no-progress"];
  const runs: readonly (readonly [string, readonly string[]])[] = [
    [process.execPath, ["run", "-A", path.join(ROOT, "main.ts"), ...args]],
    [binary, args],
  ];
  const times: number[][] = runs.map(() => []);
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const [k, [command, words]] of runs.entries()) {
      execFileSync("sync");
      times[k]!.push((await measure(command, words)).seconds);
    }
  }
  const [deno, bun] = times.map(median) as [number, number];
  rows.push([`default mode, ${flags.gb} GB, deno run`, `${deno.toFixed(2)} s`, "", ""]);
  rows.push(["the same, binary", `${bun.toFixed(2)} s`, "", ""]);
  const ratio = bun / deno;
  judge("binary / deno run", ratio.toFixed(2), `<= ${LIMITS.ratio}`, ratio <= LIMITS.ratio);
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
console.log(renderTable(rows));
process.exitCode = missed > 0 ? 1 : 0;
