/**
 * Processor time of rounding to nearest in other formats, in parts of that of INT8 on the same model.
 *
 *     deno task bench --only formats [--rounds 3]
 *
 * User and system time of all threads, less that of `--dry-run`; the formats take turns, and the figure is the
 * ratio of medians: what else the machine does changes it little.
 */

import fs from "node:fs";
import path from "node:path";
import { run } from "./bench_modes.ts";
import type { Bench } from "./support/bench_run.ts";
import { median } from "./support/measure.ts";

const FORMATS = ["int8", "w4a8", "w6a8", "w4a4", "fp8", "mxfp8", "nvfp4"] as const;

/** The target of formats of levels, which are rotated as INT8 is: processor time beside INT8. */
const RATIO_MAX = 1.5, JUDGED: readonly string[] = ["w4a8", "w6a8"];

/** Measures the formats on `model`, a file of BF16 weights. */
export function benchFormats(bench: Bench, model: string): void {
  const output = path.join(path.dirname(model), "formats.safetensors");
  const common = [model, "--preset", "none", "--output", output, "--force"];
  const start = run([...common, "--dry-run"]).cpuSeconds;
  const times = new Map<string, number[]>(FORMATS.map((format) => [format, []]));
  for (let round = 0; round < bench.rounds; round++) {
    for (const [format, own] of times) {
      own.push(run([...common, "--format", format]).cpuSeconds - start);
    }
  }
  fs.rmSync(output, { force: true });
  const [int8, ...others] = [...times].map(([format, own]) => ({ format, time: median(own) }));
  for (const { format, time } of others) {
    const ratio = time / int8!.time;
    const what = `${format} to nearest: processor time beside INT8`;
    const figure = `${ratio.toFixed(2)} x`;
    if (!JUDGED.includes(format)) bench.note(what, figure);
    else bench.judge(what, figure, `<= ${RATIO_MAX} x`, ratio <= RATIO_MAX);
  }
}
