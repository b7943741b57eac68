/**
 * Times conversions on the GPU of this machine beside those on its CPU, and prints a table for README.md:
 *
 *     deno run -A scripts/bench_device.ts [--minutes 3.5]
 *
 * The default mode (and `--format w4a8`) of a synthetic checkpoint, beside reading the file, and GPTQ of one
 * square layer. Sizes follow the adapter, and are halved until all fits the time: a software adapter gets a
 * hundredth of what a GPU gets. The best of some rounds counts.
 */

import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { describeAdapter, findAdapter } from "../src/backend/webgpu/adapter.ts";
import { VERSION } from "../src/core/version.ts";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { fluxLikeOfBytes, MODEL_SIZES } from "../tests/support/synthetic_shapes.ts";
import { timeGptq } from "./bench_gptq.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const DEVICES = ["cpu", "gpu"] as const;

const { values: flags } = parseArgs({ options: { minutes: { type: "string", default: "3.5" } } });
const endMs = performance.now() + 60_000 * Number(flags.minutes);

const adapter = await findAdapter();
if (adapter === null) {
  console.log("There is no GPU here: `quantsmith doctor` says why");
  process.exit(1);
}
const { name, isSoftware } = describeAdapter(adapter);
const cores = availableParallelism();
/** The first size. */
const start = isSoftware ? { bytes: 4e7, size: 512 } : { bytes: 4e9, size: 4096 };
/** Its width and least depth: some 20 MB for software. */
const model0 = isSoftware
  ? { hidden: 512, doubleBlocks: 1, singleBlocks: 1, text: 1024 }
  : MODEL_SIZES.demo;

/** The least of several times, in seconds; one is enough if time runs short. */
function best(run: () => void, shareOfTime: number): number {
  const stopMs = performance.now() + shareOfTime * Math.max(0, endMs - performance.now());
  let least = Infinity;
  do {
    const startMs = performance.now();
    run();
    least = Math.min(least, (performance.now() - startMs) / 1000);
  } while (performance.now() + 1000 * least < stopMs);
  return least;
}

/** Reads a file once, in parts, by one thread. Returns its bytes. */
function readAll(path: string): number {
  const fd = openSync(path, "r"), part = new Uint8Array(8 << 20);
  const { size } = fstatSync(fd);
  for (let at = 0; at < size; at += part.length) readSync(fd, part, 0, part.length, at);
  closeSync(fd);
  return size;
}

function convert(model: string, folder: string, device: string, format: string): void {
  execFileSync(process.execPath, [
    ...["run", "-A", MAIN, model, join(folder, "out.safetensors"), "--force"],
    ...["--device", device, "--format", format, "--no-progress", "--verbose", "MINIMAL"],
  ], { stdio: ["ignore", "ignore", "inherit"] });
}

interface Row {
  readonly work: string;
  readonly times: readonly [cpu: number, gpu: number];
  readonly shown: (seconds: number) => string;
}

const folder = mkdtempSync(join(tmpdir(), "quantsmith-device-"));
try {
  const rows: Row[] = [];
  const model = join(folder, "model.safetensors");
  let bytes = start.bytes;
  const write = () => {
    writeSyntheticModel(model, fluxLikeOfBytes(model0, bytes), { seed: 1 });
  };
  write();
  // The first one compiles, and shows how long the others take.
  const startMs = performance.now();
  convert(model, folder, "gpu", "int8");
  const firstMs = performance.now() - startMs, leftMs = endMs - performance.now();
  while (bytes > 1e7 && 10 * firstMs * bytes / start.bytes > leftMs) bytes /= 2;
  if (bytes < start.bytes) write();
  const size = readAll(model), reading = best(() => readAll(model), 0.05);
  const rate = (seconds: number) =>
    `${(size / seconds / 1e6).toFixed(0)} MB/s, ${
      (100 * reading / seconds).toFixed(1)
    } % of reading`;
  for (
    const [format, work, share] of [["int8", "default mode", 0.3], ["w4a8", "w4a8", 0.4]] as const
  ) {
    const times = DEVICES.map((device) =>
      best(() => convert(model, folder, device, format), share / 2)
    );
    rows.push({ work, times: times as unknown as Row["times"], shown: rate });
  }
  const times: number[] = [];
  for (const device of DEVICES) {
    const { command } = await timeGptq({
      ...{ size: start.size, workers: Math.min(8, cores), rounds: 1, python: null },
      flags: ["--device", device],
    });
    times.push(command);
  }
  rows.push({
    work: `GPTQ of ${start.size} x ${start.size}`,
    times: times as unknown as Row["times"],
    shown: (seconds) => `${seconds.toFixed(2)} s`,
  });
  const model1 = `${(size / 1e9).toFixed(2)} GB BF16 model`;
  console.log(`
| ${name}${
    isSoftware ? " (software)" : ""
  }, ${model1} | ${cores} CPU cores | GPU | CPU time / GPU time |
| --- | --- | --- | --- |`);
  for (const { work, times: [cpu, gpu], shown } of rows) {
    console.log(`| ${work} | ${shown(cpu)} | ${shown(gpu)} | ${(cpu / gpu).toFixed(2)} |`);
  }
  const date = new Date().toISOString().slice(0, 10);
  console.log(`\nquantsmith ${VERSION}, ${date}, \`deno run -A scripts/bench_device.ts\`; `);
  console.log(`reading the file: ${(size / reading / 1e9).toFixed(2)} GB/s by one thread.`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
