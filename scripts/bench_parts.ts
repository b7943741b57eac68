/**
 * Measures the cost of parts and of their join, and how even parts are:
 *
 *     deno run -A scripts/bench_parts.ts balance [--headers flux1-dev,...] [--parts 8]
 *     deno run -A scripts/bench_parts.ts join [--gb 1] [--parts 8] [--rounds 5] [--dir FOLDER]
 *
 * `balance` times one layer of every shape of real models, splits the models as `--part` does, and prints the
 * costliest part over the mean, by estimated and by measured cost. `join` makes the parts of a synthetic
 * checkpoint, then joins them and copies the joined file (`cp`, `sync`) in turn; it prints the times, their median
 * ratio, and the peak memory of the join.
 */

import { mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { convertModel } from "../src/convert/convert.ts";
import { costOf } from "../src/convert/parts/cost.ts";
import { assignLayers, layerCosts } from "../src/convert/parts/split_plan.ts";
import { prepare } from "../src/convert/prepare.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../src/plan/options.ts";
import { makeTasks } from "../src/run/make_tasks.ts";
import { PoolKeeper } from "../src/run/workers/pool_keeper.ts";
import { HEADER_NAMES, writeSparseModel } from "../tests/support/header_files.ts";
import { tensorOf, writeModel } from "../tests/support/model_files.ts";
import { measure, settlePageCache } from "./support/measure.ts";

const { values: flags, positionals: [section] } = parseArgs({
  allowPositionals: true,
  options: {
    headers: { type: "string" },
    parts: { type: "string", default: "8" },
    gb: { type: "string", default: "1" },
    rounds: { type: "string", default: "5" },
    dir: { type: "string" },
  },
});
const PARTS = Number(flags.parts), ROUNDS = Number(flags.rounds);
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(flags.dir ?? tmpdir(), "quantsmith-parts-"));

const median = (numbers: readonly number[]) =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

/** The costliest part over the mean, for a split by `costs`, judged by `actual`. */
function imbalance(
  costs: ReadonlyMap<string, number>,
  actual: ReadonlyMap<string, number>,
): number {
  const loads = new Array<number>(PARTS).fill(0);
  for (const [layer, part] of assignLayers(costs, PARTS)) loads[part - 1]! += actual.get(layer)!;
  return Math.max(...loads) / (loads.reduce((sum, load) => sum + load, 0) / PARTS);
}

/** Processor seconds of one layer, rounded as a conversion does by default; the median of some runs. */
async function secondsOf(rows: number, cols: number, pools: PoolKeeper): Promise<number> {
  const input = join(folder, "layer.safetensors"), output = join(folder, "out.safetensors");
  const bits = new Uint16Array(rows * cols);
  for (let i = 0, state = 1; i < bits.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bits[i] = 0x3c00 | (state >>> 24) | ((state >>> 8) & 0x8000);
  }
  writeModel(input, [tensorOf("blocks.0.lin.weight", "BF16", [rows, cols], bits)]);
  const times: number[] = [];
  for (let run = 0; run < 3; run++) {
    const before = process.cpuUsage();
    await convertModel({
      input,
      output,
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
      workerUrl: new URL("../src/run/workers/worker.ts", import.meta.url),
      pools,
      workers: 1,
      force: true,
    });
    const { user, system } = process.cpuUsage(before);
    times.push((user + system) / 1e6);
  }
  return median(times);
}

async function balance(): Promise<void> {
  const names = flags.headers?.split(",") ??
    HEADER_NAMES.filter((name) =>
      /^(flux|wan|qwen-image)/.test(name) && !/fp8|int8|diffusers/.test(name)
    );
  using pools = new PoolKeeper(new URL("../src/run/workers/worker.ts", import.meta.url));
  const known = new Map<string, number>();
  await secondsOf(1024, 1024, pools); // everything is warm from here on
  for (const name of names) {
    const { plan, matrixOf } = prepare(writeSparseModel(name, folder), DEFAULT_CONVERT_OPTIONS);
    const { tasks } = makeTasks(plan, matrixOf);
    const estimated = layerCosts(plan, tasks);
    const measured = new Map([...estimated.keys()].map((layer) => [layer, 0]));
    for (const task of tasks) {
      if (task.kind !== "quantize") continue;
      const { rows, cols } = task.source, key = `${rows}x${cols}`;
      if (!known.has(key)) known.set(key, await secondsOf(rows, cols, pools));
      const layer = task.name.slice(0, task.name.lastIndexOf(".") + 1);
      measured.set(layer, (measured.get(layer) ?? 0) + known.get(key)!);
    }
    // Tensors that are only moved are judged by their bytes.
    const rate = perOperation(tasks, known);
    for (const task of tasks) {
      if (task.kind === "quantize") continue;
      const layer = task.name.slice(0, task.name.lastIndexOf(".") + 1);
      measured.set(layer, (measured.get(layer) ?? 0) + costOf(task) * rate);
    }
    console.log(
      `${name}: ${PARTS} parts, costliest over mean ${
        imbalance(estimated, estimated).toFixed(3)
      } ` +
        `estimated, ${imbalance(estimated, measured).toFixed(3)} measured`,
    );
  }
}

/** Seconds of one estimated operation, over the layers that were measured. */
function perOperation(
  tasks: ReturnType<typeof makeTasks>["tasks"],
  known: ReadonlyMap<string, number>,
): number {
  let seconds = 0, operations = 0;
  for (const task of tasks) {
    if (task.kind !== "quantize") continue;
    seconds += known.get(`${task.source.rows}x${task.source.cols}`) ?? 0;
    operations += costOf(task);
  }
  return seconds / operations;
}

async function joinBeside(): Promise<void> {
  const model = join(folder, "model.safetensors"), output = join(folder, "model_int8.safetensors");
  const deno = process.execPath, run = ["run", "-A", "-q", "--no-check"];
  await measure(deno, [...run, join(ROOT, "scripts/make_model.ts"), model, "--gb", flags.gb]);
  const main = join(ROOT, "main.ts");
  for (let part = 1; part <= PARTS; part++) {
    const words = [model, output, "--device", "cpu", "--no-progress", "--part", `${part}/${PARTS}`];
    const { seconds } = await measure(deno, [...run, main, ...words]);
    console.log(`part ${part} of ${PARTS}: ${seconds.toFixed(1)} s`);
  }
  const copy = join(folder, "copy");
  const ratios: number[] = [];
  let peak = 0;
  const joinWords = [...run, main, "join", output, "--no-progress"];
  const whole = join(folder, "whole.st");
  await measure(deno, joinWords);
  renameSync(output, whole);
  const settle = () => {
    rmSync(output, { force: true });
    settlePageCache(whole);
  };
  for (let round = 0; round < ROUNDS; round++) {
    settle();
    const joined = await measure(deno, joinWords, { memory: true });
    settle();
    const copied = await measure("sh", ["-c", `cp "${whole}" "${copy}" && sync "${copy}"`]);
    rmSync(copy);
    peak = Math.max(peak, joined.peakBytes);
    ratios.push(joined.seconds / copied.seconds);
    console.log(
      `round ${round + 1}: join ${joined.seconds.toFixed(2)} s, cp and sync ` +
        `${copied.seconds.toFixed(2)} s, ratio ${ratios.at(-1)!.toFixed(2)}`,
    );
  }
  const gb = (statSync(whole).size / 1e9).toFixed(2);
  console.log(
    `join of ${gb} GB from ${PARTS} parts: ${
      median(ratios).toFixed(2)
    } times cp and sync (median of ` +
      `${ROUNDS}), peak memory ${(peak / 1e6).toFixed(0)} MB`,
  );
}

try {
  if (section === "balance") await balance();
  else if (section === "join") await joinBeside();
  else {
    console.error("Usage: bench_parts.ts balance | join [flags]");
    process.exitCode = 2;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
