/**
 * Shows the converter at work: makes a checkpoint with the statistics of a real one, converts it,
 * verifies it, and scores the result with code of its own.
 *
 *     deno task demo [--dir FOLDER] [--keep] [--size demo|tiny|bench]
 *
 * Its files (about 650 MB) go to a temporary folder and are deleted, unless `--keep` is given. Exits
 * 1 if a step fails or the quality is below that of rotation + rounding computed independently.
 */

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type KindScores, overall, type Score, scoreFiles } from "./support/plain_quality.ts";
import { renderTable } from "./support/table.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

const { values: flags } = parseArgs({
  options: {
    dir: { type: "string" },
    keep: { type: "boolean", default: false },
    size: { type: "string", default: "demo" },
  },
});

/** A command of the demonstration did not do its work. */
class StepError extends Error {}

/** Prints a command, runs it with its output on this terminal, and returns its seconds. */
function show(folder: string, script: string, ...args: string[]): number {
  const short = args.map((arg) => arg.replace(`${folder}${path.sep}`, ""));
  console.log(`\n$ deno run -A ${script} ${short.join(" ")}`);
  const start = performance.now();
  const { status } = spawnSync(
    process.execPath,
    ["run", "-A", path.join(ROOT, script), ...short],
    { cwd: folder, stdio: "inherit" },
  );
  if (status !== 0) throw new StepError(`Cannot go on: the command ended with status ${status}`);
  return (performance.now() - start) / 1000;
}

function megabytes(file: string): string {
  return `${(fs.statSync(file).size / 1e6).toFixed(0)} MB`;
}

/** Prints the scores; returns whether the default mode holds what it promises. */
function printQuality(kinds: readonly KindScores[]): boolean {
  const cells = (scores: readonly Score[]): string[] => [
    ...scores.map((score) => score.sqnrDb.toFixed(2)),
    ...scores.map((score) => (100 * score.relativeError).toFixed(2)),
    ...scores.map((score) => score.outputError.toFixed(4)),
  ];
  const names = ["default", "row", "rot"];
  const heading = ["dB", "row", "rot", "err%", "row", "rot", "W8A8", "row", "rot"];
  const total = names.map((_, which) => overall(kinds, which));
  console.log(renderTable([
    ["layers", "n", ...heading],
    ...kinds.map(({ kind, layers, scores }) => [kind, String(layers), ...cells(scores)]),
    ["all", String(kinds.reduce((sum, kind) => sum + kind.layers, 0)), ...cells(total)],
  ]));
  const [ours, , rotation] = total as [Score, Score, Score];
  return ours.sqnrDb > rotation.sqnrDb && ours.outputError <= rotation.outputError;
}

function main(folder: string): boolean {
  const source = path.join(folder, "model.safetensors");
  const byDefault = path.join(folder, "model_int8.safetensors");
  const byRow = path.join(folder, "model_row.safetensors");

  console.log("1. A checkpoint with FLUX.2's layer names and the statistics of real weights");
  show(folder, "scripts/make_model.ts", source, "--size", flags.size);

  // Without a terminal, progress would fill the page with lines.
  const quiet = process.stderr.isTTY ? [] : ["--no-progress"];

  console.log("\n2. Converted as it would be for ComfyUI, without any flag");
  const defaultSeconds = show(folder, "main.ts", source, byDefault, ...quiet);

  console.log("\n3. Would ComfyUI load it, and how close is it to its source?");
  show(folder, "main.ts", "verify", byDefault, "--source", source, ...quiet);

  console.log("\n4. For comparison: plain rounding to nearest, one scale per row, no rotation");
  const rowFlags = ["--simple", "--scaling_mode", "row"];
  const rowSeconds = show(folder, "main.ts", source, byRow, ...rowFlags, ...quiet);

  console.log(`
5. Quality, scored by plain code that shares nothing with the converter
   dB    signal over error of the weights: more is better
   err%  |W - W'| / |W| in percent: less is better
   W8A8  error of a layer's output with int8 activations, as ComfyUI runs it: less is better
   For each: the file of step 2, by the default mode; row: the file of step 4; rot: rotation + rounding
   to nearest on absmax, computed here from the source.
`);
  const holds = printQuality(scoreFiles(source, [byDefault, byRow]));
  console.log(
    holds
      ? "\nThe default mode is closer to the source than plain rotation + rounding."
      : "\nMISSED: the default mode is not closer to the source than plain rotation + rounding.",
  );
  console.log();
  console.log(renderTable([
    ["file", "size", "seconds"],
    ["source", megabytes(source), ""],
    ["default", megabytes(byDefault), defaultSeconds.toFixed(1)],
    ["row", megabytes(byRow), rowSeconds.toFixed(1)],
  ]));
  return holds;
}

if (flags.dir !== undefined) fs.mkdirSync(flags.dir, { recursive: true });
const parent = flags.dir ?? os.tmpdir();
const folder = fs.mkdtempSync(path.join(fs.realpathSync(parent), "quantsmith-demo-"));
try {
  if (!main(folder)) process.exitCode = 1;
  console.log("\nYour own model:\n");
  console.log("    npx -y deno@2.9 run -A main.ts your_model.safetensors\n");
} catch (error) {
  if (!(error instanceof StepError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  if (flags.keep) console.log(`Kept: ${folder}`);
  else fs.rmSync(folder, { recursive: true, force: true });
}
