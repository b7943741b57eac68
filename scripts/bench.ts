/**
 * Measures the converter against its targets, in one run: wall time beside `cp` + sync of the same file,
 * peak memory, start-up. Prints a table with PASS or MISS; exits 1 if a target is missed.
 *
 *     deno task bench [--gb 4.3] [--rounds 3] [--dir FOLDER] [--only SECTION,...]
 *         [--quick] [--markdown]
 *
 * Takes twice `--gb` of disk, in a temporary folder or in FOLDER; there the checkpoint stays for the next
 * run. All else that it writes is deleted. `--quick` takes about two minutes: a smaller checkpoint, one round,
 * and the sections that show what a change of the code costs.
 */

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { fluxLikeOfBytes, MODEL_SIZES } from "../tests/support/synthetic_shapes.ts";
import { benchEdit, benchRemote, benchSpeed, benchStart, benchTensor } from "./bench_files.ts";
import { benchFit } from "./bench_fit.ts";
import { benchFormats } from "./bench_formats.ts";
import { gptqComparisons, gptqFigures, timeGptq } from "./bench_gptq.ts";
import { benchConfig, benchLayers, benchLearned, benchMerge, benchShared } from "./bench_layers.ts";
import { benchPatterns, benchSmall } from "./bench_many.ts";
import { benchModes } from "./bench_modes.ts";
import { benchQuality } from "./bench_quality.ts";
import { benchReal, realTable } from "./bench_real.ts";
import { benchFirstLayer, benchHeaders, benchManyLayers } from "./bench_start.ts";
import { Bench, prepare } from "./support/bench_run.ts";
import { UnavailableError } from "./support/pypi.ts";
import { hasGnuTime, NO_GNU_TIME } from "./support/measure.ts";
import { renderMarkdown, renderTable } from "./support/table.ts";

const SECTIONS = [
  "speed",
  "remote",
  "merge",
  "edit",
  "tensor",
  "start",
  "layers",
  "small",
  "config",
  "many",
  "learned",
  "gptq",
  "shared",
  "quality",
  "modes",
  "formats",
  "real",
  "fit",
];

const MB = 1e6;

/** Blocks of the model that fast modes are measured on: 530 MB. */
const MODES_COPIES = 16;

/** The target: how many times faster than torch. */
const TORCH_RATIO = 1.5;

/** Sections of a quick run, and its size. */
const QUICK = { only: "speed,merge,start,layers,small,config,many,shared", gb: "1.1", rounds: "1" };

const { values: given } = parseArgs({
  options: {
    gb: { type: "string" },
    rounds: { type: "string" },
    dir: { type: "string" },
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
  },
});
const standard = given.quick ? QUICK : { only: SECTIONS.join(","), gb: "4.3", rounds: "3" };
const flags = { ...standard, ...given };

/** Ends the program: the command line is wrong. */
function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

/** Returns a positive number that a flag holds. */
function positive(flag: "gb" | "rounds"): number {
  const value = Number(flags[flag]);
  return value > 0 && value < Infinity ? value : refuse(`Cannot read --${flag}: "${flags[flag]}"`);
}

const sections = flags.only.split(",");
for (const name of sections) {
  if (!SECTIONS.includes(name)) refuse(`Cannot run "${name}": there are ${SECTIONS.join(", ")}`);
}
const modelBytes = positive("gb") * 1e9;
const bench = new Bench(Math.ceil(positive("rounds")));

/** GPTQ of a 4096 x 4096 layer with a given Hessian beside torch, as commands and by the methods alone. */
async function benchLargeGptq(): Promise<void> {
  const times = await timeGptq({ size: 4096, workers: 2, rounds: bench.rounds, python: "python3" });
  for (const [what, figure] of gptqFigures(times)) {
    bench.note(`GPTQ of 4096 x 4096, ${what}`, figure);
  }
  for (const { what, ratio } of gptqComparisons(times)) {
    if (ratio === null) continue;
    bench.judge(what, ratio.toFixed(2), `>= ${TORCH_RATIO}`, ratio >= TORCH_RATIO);
  }
}

/** Output errors of every method against rounding to nearest. */
async function benchMethods(): Promise<void> {
  const { rows, missed } = await benchQuality({ layers: 5, seed: 1 });
  bench.missed += missed;
  for (const [mode, , a16, a8, sqnr, target = "", verdict = ""] of rows.slice(1)) {
    bench.results.push([`${mode}: W8A16, W8A8, SQNR`, `${a16}, ${a8}, ${sqnr}`, target, verdict]);
  }
}

/** Does what needs the real model; says so if the model cannot be had. */
async function ifRealModel<T>(measure: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await measure();
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    console.error(`The real model is not measured: ${error.message}`);
    return otherwise;
  }
}

const temporary = flags.dir === undefined;
if (flags.dir !== undefined) fs.mkdirSync(flags.dir, { recursive: true });
const folder = flags.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-bench-"));
let modes: string[][] = [], real: string[][] = [];
try {
  if (!hasGnuTime()) console.error(NO_GNU_TIME);
  if (["speed", "remote", "edit", "start", "formats"].some((name) => sections.includes(name))) {
    const tensors = fluxLikeOfBytes(MODEL_SIZES.bench, modelBytes);
    const name = `quantsmith-bench-${modelBytes / MB}mb.safetensors`;
    const model = prepare(path.join(folder, name), tensors, modelBytes);
    if (sections.includes("speed")) await benchSpeed(bench, model);
    if (sections.includes("remote")) await benchRemote(bench, model);
    if (sections.includes("edit")) await benchEdit(bench, model);
    if (sections.includes("formats")) benchFormats(bench, model);
    if (sections.includes("start")) await benchStart(bench, model);
  }
  if (sections.includes("merge")) await benchMerge(bench, folder);
  if (sections.includes("tensor")) await benchTensor(bench, folder);
  if (sections.includes("layers")) await benchLayers(bench, folder);
  if (sections.includes("small")) await benchSmall(bench, folder);
  if (sections.includes("config")) {
    await benchConfig(bench, folder);
    benchPatterns(bench);
  }
  if (sections.includes("many")) {
    await benchFirstLayer(bench, folder);
    await benchHeaders(bench, folder);
    await benchManyLayers(bench, folder);
  }
  if (sections.includes("learned")) await benchLearned(bench, folder);
  if (sections.includes("gptq")) await benchLargeGptq();
  if (sections.includes("shared")) await benchShared(bench, folder);
  if (sections.includes("quality")) await benchMethods();
  // A table of its own: other columns.
  if (sections.includes("modes")) modes = benchModes({ folder, copies: MODES_COPIES });
  if (sections.includes("real")) {
    real = await ifRealModel(async () => realTable(await benchReal(folder)), []);
  }
  if (sections.includes("fit")) await ifRealModel(() => benchFit(bench, folder), undefined);
} finally {
  if (temporary) fs.rmSync(folder, { recursive: true, force: true });
}
const [cpu] = os.cpus();
console.log(
  `${cpu?.model ?? "unknown CPU"}, ${os.cpus().length} cores, ` +
    `${(os.totalmem() / 2 ** 30).toFixed(0)} GiB, ${os.type()} ${os.release()}, ` +
    `Deno ${process.versions["deno"]}, ${
      new Date().toISOString().slice(0, 10)
    }; 2 workers, warm cache\n`,
);
const render = flags.markdown ? renderMarkdown : renderTable;
if (bench.results.length > 1) console.log(render(bench.results));
if (modes.length > 0) console.log(`\n${render(modes)}`);
if (real.length > 0) console.log(`\n${render(real)}`);
process.exitCode = bench.missed > 0 ? 1 : 0;
