/** Wall time and peak memory of a command. */

import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";

/** GNU time: the kernel's own account of a process, read after its end. */
export const GNU_TIME = "/usr/bin/time";

/** Said if GNU time is not there. */
export const NO_GNU_TIME =
  'Peak memory is read from /proc every 20 ms: install "time" (apt-get install -y time) for the ' +
  "kernel's own figure";

/** One run of a command. */
export interface Measurement {
  readonly seconds: number;
  /** Peak resident memory in bytes, NaN if the system does not report it. */
  readonly peakBytes: number;
  /** Seconds until the first line of stdout that `isFirst` accepts, NaN if none did. */
  readonly firstSeconds: number;
}

/**
 * Writes as many bytes as `file` has beside it, syncs and removes them. Virtual machines give memory that the page
 * cache has left back to their host and are slow to take it again: runs that are compared find the same state.
 */
export function settlePageCache(file: string): void {
  const filler = `${file}.filler`;
  execFileSync("sh", ["-c", 'cp "$1" "$2" && sync "$2" && rm "$2"', "sh", file, filler]);
}

/** Whether peaks come from GNU time. */
export function hasGnuTime(): boolean {
  return fs.existsSync(GNU_TIME);
}

/** Returns the peak in bytes that a report of `time -v` states, NaN if it states none. */
export function parsePeak(report: string): number {
  const match = /Maximum resident set size \(kbytes\): (\d+)/.exec(report);
  return match === null ? NaN : Number(match[1]) * 1024;
}

/** Returns the high-water mark of a living process in bytes, NaN if it cannot be read. */
function highWaterMark(pid: number): number {
  const file = `/proc/${pid}/status`;
  if (!fs.existsSync(file)) return NaN;
  const match = /VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(file, "utf8"));
  return match === null ? NaN : Number(match[1]) * 1024;
}

/**
 * Runs a command to its end.
 *
 * @param isFirst finds the line of stdout whose time is wanted.
 * @throws Error with what the command said, if it does not exit with 0.
 */
export function measure(
  command: string,
  args: readonly string[],
  options: { readonly isFirst?: (line: string) => boolean; readonly memory?: boolean } = {},
): Promise<Measurement> {
  const { isFirst = () => false, memory = false } = options;
  const timed = memory && hasGnuTime();
  const start = performance.now();
  const elapsed = (): number => (performance.now() - start) / 1000;
  const child = timed
    ? spawn(GNU_TIME, ["-v", command, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    : spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let peakBytes = NaN;
  const ticker = memory && !timed
    ? setInterval(() => {
      const mark = highWaterMark(child.pid!);
      if (mark > 0) peakBytes = mark;
    }, 20)
    : undefined;
  let firstSeconds = NaN;
  let line = "";
  let said = "";
  const decoder = new TextDecoder();
  child.stdout.on("data", (chunk: Uint8Array) => {
    const lines = (line + decoder.decode(chunk, { stream: true })).split("\n");
    line = lines.pop()!;
    if (Number.isNaN(firstSeconds) && lines.some(isFirst)) firstSeconds = elapsed();
  });
  child.stderr.on("data", (chunk: Uint8Array) => said += new TextDecoder().decode(chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      const seconds = elapsed();
      clearInterval(ticker);
      if (code !== 0) {
        reject(new Error(`Cannot measure: ${[command, ...args].join(" ")} exits ${code}: ${said}`));
        return;
      }
      if (timed) peakBytes = parsePeak(said);
      resolve({ seconds, peakBytes, firstSeconds });
    });
  });
}

/** Returns the median. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle]!
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}
