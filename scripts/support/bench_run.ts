/**
 * The common parts of all benches: the program to be measured, files to measure it on, and the table of
 * results.
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type SyntheticTensor, writeSyntheticModel } from "../../tests/support/synthetic_model.ts";
import { DIST } from "./binaries.ts";
import { measure, type Measurement, median } from "./measure.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));

/** Most memory that a conversion may take. */
const PEAK_LIMIT_BYTES = 150 * 2 ** 20;

/** Returns the median and the range of wall times. */
export function seconds(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(2)} s (${low.toFixed(2)}-${high.toFixed(2)})`;
}

/** Runs the program and returns what it took. */
export function quantsmith(args: readonly string[], options?: Parameters<typeof measure>[2]) {
  return measure(process.execPath, ["run", "-A", MAIN, ...args], options);
}

/** The package that `npx` runs on Node, if `deno task build:npm` has made it. */
export const PACKAGE = path.join(DIST, "npm/bin/quantsmith.js");

/**
 * Converts `source`, deletes the output and leaves nothing for the disk to do.
 *
 * @param onNode by the package, on Node.
 */
export async function convert(
  source: string,
  args: readonly string[],
  { onNode = false } = {},
): Promise<Measurement> {
  const out = `${source}.out.safetensors`;
  const all = [source, out, "--no-progress", "--workers", "2", ...args];
  execFileSync("sync");
  try {
    return await (onNode
      ? measure("node", [PACKAGE, ...all], { memory: true })
      : quantsmith(all, { memory: true }));
  } finally {
    fs.rmSync(out, { force: true });
  }
}

/** Copies a file, waits until it is on the disk, and deletes the copy; returns the seconds. */
export async function copyAndSync(source: string): Promise<number> {
  const out = `${source}.copy`;
  execFileSync("sync");
  try {
    return (await measure("sh", ["-c", 'cp "$1" "$2" && sync "$2"', "sh", source, out])).seconds;
  } finally {
    fs.rmSync(out, { force: true });
  }
}

/** Writes a checkpoint, unless a file of that size is there already. */
export function prepare(file: string, tensors: readonly SyntheticTensor[], data: number): string {
  if (fs.existsSync(file) && fs.statSync(file).size >= data) return file;
  const { bavail, bsize } = fs.statfsSync(path.dirname(file));
  const needed = 2.05 * data + 1e8;
  if (bavail * bsize < needed) {
    throw new Error(
      `Cannot write "${file}": ${(needed / 1e9).toFixed(1)} GB are needed, ` +
        `${(bavail * bsize / 1e9).toFixed(1)} GB are free`,
    );
  }
  console.error(`Writing ${file}`);
  writeSyntheticModel(`${file}.part`, tensors);
  fs.renameSync(`${file}.part`, file);
  return file;
}

/** Collects figures and verdicts. */
export class Bench {
  /** Rows of the result: what, figure, target, verdict. */
  readonly results: string[][] = [["what", "measured", "target", "verdict"]];
  /** How often a conversion is repeated. */
  readonly rounds: number;
  /** Targets that were missed. */
  missed = 0;

  constructor(rounds: number) {
    this.rounds = rounds;
  }

  /** Adds a figure that has no target. */
  note(what: string, figure: string): void {
    this.results.push([what, figure, "", ""]);
  }

  /** Adds a figure and its verdict. */
  judge(what: string, figure: string, target: string, holds: boolean): void {
    if (!holds) this.missed++;
    this.results.push([what, figure, target, holds ? "PASS" : "MISS"]);
  }

  /** Adds the peak memory of some runs. */
  judgePeak(what: string, runs: readonly Measurement[], limit = PEAK_LIMIT_BYTES): void {
    const peak = Math.max(...runs.map((run) => run.peakBytes));
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    this.judge(what, mib(peak), `<= ${mib(limit)}`, peak <= limit);
  }
}
