/**
 * Times conversions with and without a journal, in turn, on one file:
 *
 *     deno run -A scripts/bench_journal.ts MODEL [--pairs N]
 *
 * Prints the time and the processor time of each, and the median ratio. `MODEL` from `make_model.ts`.
 */

import { rmSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { convertModel } from "../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../src/plan/options.ts";
import { PoolKeeper } from "../src/run/workers/pool_keeper.ts";

const { values, positionals: [model] } = parseArgs({
  allowPositionals: true,
  options: { pairs: { type: "string", default: "5" } },
});
if (model === undefined) {
  console.error("Usage: bench_journal.ts MODEL [--pairs N]");
  process.exit(2);
}

const workerUrl = new URL("../src/run/workers/worker.ts", import.meta.url);
const output = `${model}.bench_journal.safetensors`;

/** Never, as timers have it. */
const NEVER_MS = 2 ** 31 - 1;

async function time(input: string, saveMs: number | null): Promise<{ wall: number; cpu: number }> {
  const before = process.cpuUsage();
  using pools = new PoolKeeper(workerUrl);
  const { elapsedMs } = await convertModel({
    input,
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl,
    pools,
    workers: navigator.hardwareConcurrency,
    force: true,
  }, saveMs === null ? {} : { saveMs });
  const { user, system } = process.cpuUsage(before);
  rmSync(output);
  return { wall: elapsedMs, cpu: (user + system) / 1000 };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;
}

await time(model, null); // the file is in memory from here on
const walls: number[] = [], cpus: number[] = [];
for (let pair = 0; pair < Number(values.pairs); pair++) {
  // In turn which one is first: what the one leaves to the disk, the other waits for.
  const order = pair % 2 === 0 ? [null, NEVER_MS] : [NEVER_MS, null];
  const times = new Map<number | null, { wall: number; cpu: number }>();
  for (const saveMs of order) times.set(saveMs, await time(model, saveMs));
  const journal = times.get(null)!, without = times.get(NEVER_MS)!;
  walls.push(journal.wall / without.wall);
  cpus.push(journal.cpu / without.cpu);
  console.log(
    `with ${(journal.wall / 1000).toFixed(2)} s (${(journal.cpu / 1000).toFixed(2)} s of cores), ` +
      `without ${(without.wall / 1000).toFixed(2)} s (${(without.cpu / 1000).toFixed(2)} s)`,
  );
}
console.log(
  `median ratio: time ${median(walls).toFixed(3)}, processor time ${median(cpus).toFixed(3)}`,
);
