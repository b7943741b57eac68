/**
 * A conversion in a process of its own, for tests that kill it: `resumable_run.ts REQUEST.json`. Prints
 * `begun` when the work begins, and what it found about the layers at the end.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";

/** Parameters of the process. */
export interface ResumableRun {
  readonly input: string;
  readonly output: string;
  readonly options: Partial<ConvertOptions>;
  readonly workers: number;
  readonly resume: boolean;
  readonly saveMs: number;
}

if (import.meta.main) {
  const run = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as ResumableRun;
  const { layers } = await convertModel({
    input: run.input,
    output: run.output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...run.options },
    workerUrl: new URL("../../src/run/workers/worker.ts", import.meta.url),
    workers: run.workers,
    resume: run.resume,
    measure: true,
    onPlan: ({ resumed }) => console.log(`begun ${resumed ?? -1}`),
  }, { saveMs: run.saveMs, touchMs: 20, watchMs: 200 });
  console.log(JSON.stringify(layers.map((layer) => ({ ...layer, stats: [...layer.stats] }))));
}
