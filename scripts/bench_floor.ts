/**
 * What of a conversion's start and memory is the runtime's own: an empty program, threads that do nothing, the
 * program in its parts, and plain rows of a small model. Prints medians: wall time, peak memory, time to the
 * first layer.
 *
 *     deno run -A scripts/bench_floor.ts [--rounds 5]
 *
 * The package is measured, too, if `deno task build:npm` has made it.
 */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { weight } from "../tests/support/synthetic_shapes.ts";
import { DIST } from "./support/binaries.ts";
import { hasGnuTime, measure, type Measurement, median, NO_GNU_TIME } from "./support/measure.ts";
import { renderTable } from "./support/table.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const rounds = Math.max(1, Math.ceil(Number(values.rounds)));

/** A program for Deno that starts `count` threads, as the program does there, and ends when all have begun. */
function idleWebThreads(count: number): string {
  return `import process from "node:process";
if (!("WorkerGlobalScope" in globalThis)) {
  const workers = Array.from({ length: ${count} }, () =>
    new Worker(new URL(import.meta.url), { type: "module" }));
  await Promise.all(workers.map((worker) => new Promise((begun) => worker.onmessage = begun)));
  process.exit(0);
} else postMessage("begun");
`;
}

/** The same for Node. */
function idleThreads(count: number): string {
  return `import { isMainThread, parentPort, Worker } from "node:worker_threads";
if (isMainThread) {
  const workers = Array.from({ length: ${count} }, () =>
    new Worker(new URL(import.meta.url), { resourceLimits: { maxYoungGenerationSizeMb: 1 } }));
  await Promise.all(workers.map((worker) => new Promise((begun) => worker.on("message", begun))));
  process.exit(0);
} else parentPort.postMessage("begun");
`;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-floor-"));
try {
  if (!hasGnuTime()) console.error(NO_GNU_TIME);
  const place = (name: string) => path.join(folder, name);
  fs.writeFileSync(place("empty.mjs"), "");
  for (const count of [1, 2]) fs.writeFileSync(place(`idle${count}.mjs`), idleWebThreads(count));
  fs.writeFileSync(place("idle_node.mjs"), idleThreads(2));
  const model = place("model.safetensors");
  writeSyntheticModel(
    model,
    Array.from({ length: 1000 }, (_, i) => weight(`blocks.${i}.linear`, 256, 512)),
  );
  const main = fileURLToPath(new URL("../main.ts", import.meta.url));
  const rows = [model, place("out.safetensors"), "--preset", "none", "--force", "--json"];
  rows.push("--simple", "--scaling_mode", "row", "--workers", "2");
  const deno = [process.execPath, "run", "-A"];
  const commands: [string, string[]][] = [
    ["Deno, an empty program", [...deno, place("empty.mjs")]],
    ["Deno and a thread that does nothing", [...deno, place("idle1.mjs")]],
    ["Deno and two threads that do nothing", [...deno, place("idle2.mjs")]],
    ["--version", [...deno, main, "--version"]],
    ["--dry-run of 1,000 layers", [...deno, main, model, "--preset", "none", "--dry-run"]],
    ["plain rows of 1,000 layers", [...deno, main, ...rows]],
  ];
  const packaged = path.join(DIST, "npm");
  if (fs.existsSync(packaged)) {
    commands.push(
      ["the same, the package on Deno", [...deno, path.join(packaged, "lib/main.js"), ...rows]],
      ["the same, the package on Node", [
        "node",
        path.join(packaged, "bin/quantsmith.js"),
        ...rows,
      ]],
      ["Node and two threads that do nothing", ["node", place("idle_node.mjs")]],
    );
  }
  const isFirst = (line: string) => line.startsWith('{"event":"tensor"');
  const runs = commands.map((): Measurement[] => []);
  // One round more: the first fills the runtime's cache of compiled code.
  for (let round = 0; round <= rounds; round++) {
    for (const [i, [, [command, ...args]]] of commands.entries()) {
      const run = await measure(command!, args, { memory: true, isFirst });
      if (round > 0) runs[i]!.push(run);
    }
  }
  const ms = (seconds: number) => Number.isNaN(seconds) ? "" : `${(1000 * seconds).toFixed(0)} ms`;
  console.log(renderTable([
    ["what", "wall time", "first layer", "peak memory"],
    ...commands.map(([what], i) => [
      what,
      ms(median(runs[i]!.map((run) => run.seconds))),
      ms(median(runs[i]!.map((run) => run.firstSeconds))),
      `${(median(runs[i]!.map((run) => run.peakBytes)) / 1e6).toFixed(0)} MB`,
    ]),
  ]));
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
