/**
 * Measures the converter against its targets, in one run: wall time beside `cp` + sync of the same file,
 * peak memory, start-up. Prints a table with PASS or MISS; exits 1 where a target is missed.
 *
 *     deno task bench [--gb 4.3] [--rounds 3] [--dir FOLDER] [--only speed,remote,merge,edit,tensor,start,layers,config,learned]
 *         [--markdown]
 *
 * Takes twice `--gb` of disk, in a temporary folder or in FOLDER; there the checkpoint stays for the next
 * run. All else that it writes is deleted.
 */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type SyntheticTensor, writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import {
  dataBytes,
  fluxLikeOfBytes,
  fluxLikeTensors,
  loraLike,
  manyLayers,
  MODEL_SIZES,
  weight,
} from "../tests/support/synthetic_shapes.ts";
import { timeGptq } from "./bench_gptq.ts";
import { benchQuality } from "./bench_quality.ts";
import { timeRemote } from "./bench_remote.ts";
import { hasGnuTime, measure, type Measurement, median, NO_GNU_TIME } from "./support/measure.ts";
import { renderMarkdown, renderTable } from "./support/table.ts";

const SECTIONS = [
  "speed",
  "remote",
  "merge",
  "edit",
  "tensor",
  "start",
  "layers",
  "config",
  "learned",
  "gptq",
  "quality",
];
const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const RTN = ["--simple", "--scaling_mode", "row"];
const MB = 1e6;

/** The targets. */
const LIMITS = {
  torchRatio: 1.5,
  learnedRatio: 3,
  rtnRatio: 1.3,
  defaultRatio: 4,
  editRatio: 1.3,
  peakBytes: 150 * 2 ** 20,
  startSeconds: 0.15,
  firstTensorSeconds: 1,
  mergeRatio: 1.15,
  remoteRatio: 1.3,
  remotePeakBytes: 200e6,
  configSeconds: 1,
};

/** Ranks of the LoRAs that are merged. */
const RANKS = [16, 64];

/** The model that LoRAs are merged into: 1.3 GB. */
const MERGE_SIZE = { ...MODEL_SIZES.bench, doubleBlocks: 1, singleBlocks: 1 };

const { values: flags } = parseArgs({
  options: {
    gb: { type: "string", default: "4.3" },
    rounds: { type: "string", default: "3" },
    dir: { type: "string" },
    only: { type: "string", default: SECTIONS.join(",") },
    markdown: { type: "boolean", default: false },
  },
});

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
const rounds = Math.ceil(positive("rounds"));

/** Rows of the result: what, figure, target, verdict. */
const results: string[][] = [["what", "measured", "target", "verdict"]];
let missed = 0;

/** Adds a figure that has no target. */
function note(what: string, figure: string): void {
  results.push([what, figure, "", ""]);
}

/** Adds a figure and its verdict. */
function judge(what: string, figure: string, target: string, holds: boolean): void {
  if (!holds) missed++;
  results.push([what, figure, target, holds ? "PASS" : "MISS"]);
}

function seconds(values: readonly number[]): string {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(2)} s (${low.toFixed(2)}-${high.toFixed(2)})`;
}

function quantsmith(args: readonly string[], options?: Parameters<typeof measure>[2]) {
  return measure(process.execPath, ["run", "-A", MAIN, ...args], options);
}

/** Converts `source`, deletes the output and leaves nothing for the disk to do. */
async function convert(source: string, args: readonly string[]): Promise<Measurement> {
  const out = `${source}.out.safetensors`;
  execFileSync("sync");
  try {
    return await quantsmith([source, out, "--no-progress", "--workers", "2", ...args], {
      memory: true,
    });
  } finally {
    fs.rmSync(out, { force: true });
  }
}

async function copyAndSync(source: string): Promise<number> {
  const out = `${source}.copy`;
  execFileSync("sync");
  try {
    return (await measure("sh", ["-c", 'cp "$1" "$2" && sync "$2"', "sh", source, out])).seconds;
  } finally {
    fs.rmSync(out, { force: true });
  }
}

/** Writes a checkpoint, unless a file of that size is there already. */
function prepare(file: string, tensors: readonly SyntheticTensor[], data: number): string {
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

function judgePeak(what: string, runs: readonly Measurement[]): void {
  const peak = Math.max(...runs.map((run) => run.peakBytes));
  const limit = LIMITS.peakBytes;
  judge(what, `${(peak / 2 ** 20).toFixed(0)} MiB`, `<= ${limit / 2 ** 20} MiB`, peak <= limit);
}

/** Wall time beside cp + sync, interleaved, with a warm cache. */
async function benchSpeed(model: string): Promise<void> {
  execFileSync("sh", ["-c", 'cat "$1" > /dev/null', "sh", model]);
  const copies: number[] = [];
  const rtn: Measurement[] = [];
  const byDefault: Measurement[] = [];
  for (let round = 1; round <= rounds; round++) {
    copies.push(await copyAndSync(model));
    rtn.push(await convert(model, RTN));
    byDefault.push(await convert(model, []));
    console.error(
      `Round ${round} of ${rounds}: cp+sync ${copies.at(-1)!.toFixed(2)} s, ` +
        `RTN ${rtn.at(-1)!.seconds.toFixed(2)} s, default ${
          byDefault.at(-1)!.seconds.toFixed(2)
        } s`,
    );
  }
  const copy = median(copies);
  const size = `${(fs.statSync(model).size / 1e9).toFixed(2)} GB`;
  note(`cp + sync of ${size}`, seconds(copies));
  for (
    const [what, runs, limit] of [
      ["RTN per row", rtn, LIMITS.rtnRatio],
      ["default mode", byDefault, LIMITS.defaultRatio],
    ] as const
  ) {
    const times = runs.map((run) => run.seconds);
    const ratio = median(times) / copy;
    note(`${what}: wall time`, seconds(times));
    judge(`${what}: wall / cp+sync`, ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
    judgePeak(`${what}: peak memory`, runs);
  }
}

/** The default mode from a server on loopback beside the same from the file. */
async function benchRemote(model: string): Promise<void> {
  const { local, remote } = await timeRemote(model, {
    rounds,
    convert: (source, out) =>
      quantsmith([source, out, "--no-progress", "--workers", "2"], { memory: true }),
  });
  const times = [local, remote].map((runs) => runs.map((run) => run.seconds));
  const ratio = median(times[1]!) / median(times[0]!);
  note("default mode, from a server: wall time", seconds(times[1]!));
  const { remoteRatio, remotePeakBytes } = LIMITS;
  judge(
    "from a server / from the file",
    ratio.toFixed(2),
    `<= ${remoteRatio}`,
    ratio <= remoteRatio,
  );
  const peak = Math.max(...remote.map((run) => run.peakBytes));
  judge(
    "from a server: peak memory",
    `${(peak / 1e6).toFixed(0)} MB`,
    `<= ${remotePeakBytes / 1e6} MB`,
    peak <= remotePeakBytes,
  );
}

/** The default mode with a LoRA on every layer of the blocks, beside the same without, interleaved. */
async function benchMerge(folder: string): Promise<void> {
  const tensors = fluxLikeTensors(MERGE_SIZE);
  const model = path.join(folder, "quantsmith-bench-merge.safetensors");
  prepare(model, tensors, dataBytes(tensors));
  const loras = RANKS.map((rank) => path.join(folder, `quantsmith-bench-lora${rank}.safetensors`));
  RANKS.forEach((rank, i) => writeSyntheticModel(loras[i]!, loraLike(tensors, rank)));
  try {
    const plain: number[] = [];
    const merged: number[][] = RANKS.map(() => []);
    for (let round = 0; round < rounds; round++) {
      plain.push((await convert(model, [])).seconds);
      for (const [i, lora] of loras.entries()) {
        merged[i]!.push((await convert(model, ["--merge-lora", lora])).seconds);
      }
    }
    const size = `${(fs.statSync(model).size / 1e9).toFixed(2)} GB`;
    note(`default mode of ${size}: wall time`, seconds(plain));
    for (const [i, rank] of RANKS.entries()) {
      const ratio = median(merged[i]!) / median(plain);
      const limit = LIMITS.mergeRatio;
      note(`the same + LoRA of rank ${rank}: wall time`, seconds(merged[i]!));
      if (rank === RANKS[0]) {
        judge(`rank ${rank}: with / without LoRA`, ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
      } else note(`rank ${rank}: with / without LoRA`, ratio.toFixed(2));
    }
  } finally {
    for (const file of [model, ...loras]) fs.rmSync(file, { force: true });
  }
}

/** Planning of many layers by as many regular expressions. */
async function benchConfig(folder: string): Promise<void> {
  const count = 2000;
  const model = path.join(folder, "quantsmith-bench-config.safetensors");
  const config = path.join(folder, "quantsmith-bench-config.json");
  const small = Array.from({ length: count }, (_, i) => weight(`blocks.${i}.linear`, 16, 16));
  writeSyntheticModel(model, small);
  const entries = small.map((_, i) => [`^blocks\\.(${i})\\.lin(ear)?`, { format: "int8" }]);
  fs.writeFileSync(config, JSON.stringify(Object.fromEntries(entries)));
  try {
    const plan = [model, "--preset", "none", "--dry-run", "--json"];
    const times: number[] = [];
    const bare: number[] = [];
    for (let round = 0; round < rounds; round++) {
      bare.push((await quantsmith(plan)).seconds);
      times.push((await quantsmith([...plan, "--layer-config", config])).seconds);
    }
    const limit = LIMITS.configSeconds;
    const typical = median(times);
    note(`plan of ${count} layers, start-up included`, `${median(bare).toFixed(2)} s`);
    judge(
      `the same by ${count} regular expressions`,
      `${typical.toFixed(2)} s`,
      `< ${limit} s`,
      typical < limit,
    );
  } finally {
    for (const file of [model, config]) fs.rmSync(file, { force: true });
  }
}

/** Edits and exact migrations of a quantized file move bytes: wall time beside cp + sync, interleaved. */
async function benchEdit(model: string): Promise<void> {
  const file = `${model}.int8.safetensors`;
  await quantsmith([model, file, "--no-progress", "--force", ...RTN, "--target", "ctq"]);
  try {
    const copies: number[] = [];
    const edits: Measurement[] = [];
    const migrations: Measurement[] = [];
    const write = async (command: string, ...args: string[]) => {
      const out = `${file}.out.safetensors`;
      execFileSync("sync");
      try {
        const common = ["--no-progress", "--workers", "2"];
        return await quantsmith([command, file, out, ...common, ...args], { memory: true });
      } finally {
        fs.rmSync(out, { force: true });
      }
    };
    for (let round = 1; round <= rounds; round++) {
      copies.push(await copyAndSync(file));
      edits.push(await write("edit", "--add-keys", "full_precision_matrix_mult: true"));
      migrations.push(await write("migrate"));
      console.error(
        `Round ${round} of ${rounds}: cp+sync ${copies.at(-1)!.toFixed(2)} s, ` +
          `edit ${edits.at(-1)!.seconds.toFixed(2)} s, ` +
          `migrate ${migrations.at(-1)!.seconds.toFixed(2)} s`,
      );
    }
    const size = `${(fs.statSync(file).size / 1e9).toFixed(2)} GB`;
    note(`cp + sync of ${size}, int8`, seconds(copies));
    for (const [what, runs] of [["edit", edits], ["exact migration", migrations]] as const) {
      const times = runs.map((run) => run.seconds);
      const ratio = median(times) / median(copies);
      const limit = LIMITS.editRatio;
      note(`${what}: wall time`, seconds(times));
      judge(`${what}: wall / cp+sync`, ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
      judgePeak(`${what}: peak memory`, runs);
    }
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** A single tensor of 2 GiB: memory must not follow the size of a tensor either. */
async function benchTensor(folder: string): Promise<void> {
  const side = 32768;
  const file = path.join(folder, "quantsmith-bench-tensor.safetensors");
  prepare(file, [weight("blocks.0.linear", side, side)], 2 * side * side);
  try {
    for (
      const [what, args] of [
        ["RTN per row", RTN],
        ["RTN, one scale", ["--simple", "--scaling_mode", "tensor"]],
        ["default mode", []],
      ] as const
    ) {
      const run = await convert(file, args);
      note(`2 GiB tensor, ${what}: wall time`, `${run.seconds.toFixed(2)} s`);
      judgePeak(`2 GiB tensor, ${what}: peak memory`, [run]);
    }
  } finally {
    fs.rmSync(file, { force: true });
  }
}

async function benchStart(model: string): Promise<void> {
  for (const [what, args] of [["--help", ["--help"]], ["inspect", ["inspect", model]]] as const) {
    await quantsmith(args); // the first run fills the runtime's cache
    const times: number[] = [];
    for (let k = 0; k < 9; k++) times.push((await quantsmith(args)).seconds);
    const limit = LIMITS.startSeconds;
    const typical = median(times);
    judge(
      `${what}: median of ${times.length}`,
      `${(typical * 1000).toFixed(0)} ms`,
      `< ${limit * 1000} ms`,
      typical < limit,
    );
  }
}

/** Learned rounding beside GPTQ of the same layer, start-up, reading and the Hessian included. */
async function benchLearned(folder: string): Promise<void> {
  const side = 2048, tokens = 512;
  const file = path.join(folder, "quantsmith-bench-learned.safetensors");
  const calibration = path.join(folder, "quantsmith-bench-learned-calibration.safetensors");
  prepare(file, [weight("blocks.0.linear", side, side)], 2 * side * side);
  const inputs = {
    ...weight("blocks.0.linear", tokens, side),
    name: "blocks.0.linear.activations",
  };
  prepare(calibration, [inputs], 2 * tokens * side);
  const args = ["--preset", "none", "--workers", "1", "--scaling_mode", "row"];
  const runs = [
    ["gptq", ["--calibration-data", calibration]],
    ["100 steps", ["--optimizer", "original", "--num_iter", "100"]],
    ["defaults", ["--optimizer", "original"]],
  ] as const;
  try {
    const times: number[][] = runs.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [k, [, more]] of runs.entries()) {
        times[k]!.push((await convert(file, [...args, ...more])).seconds);
      }
    }
    const [gptq, hundred, defaults] = times as [number[], number[], number[]];
    const layer = `${side} x ${side}, one worker`;
    note(`${layer}, gptq with ${tokens} inputs: wall time`, seconds(gptq));
    note(`${layer}, learned, 100 steps: wall time`, seconds(hundred));
    note(`${layer}, learned, defaults: wall time`, seconds(defaults));
    const ratio = median(hundred) / median(gptq), limit = LIMITS.learnedRatio;
    judge("learned, 100 steps / gptq", ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
  } finally {
    fs.rmSync(file, { force: true });
    fs.rmSync(calibration, { force: true });
  }
}

/** Time until the first tensor of a model of many layers is done. */
async function benchLayers(folder: string): Promise<void> {
  const count = 1000;
  const file = path.join(folder, "quantsmith-bench-layers.safetensors");
  prepare(file, manyLayers(count), count * 2 * 256 * 256);
  const out = `${file}.out.safetensors`;
  try {
    const run = await quantsmith([file, out, "--json"], {
      isFirst: (line) => JSON.parse(line).event === "tensor",
    });
    const limit = LIMITS.firstTensorSeconds;
    const first = run.firstSeconds;
    judge(
      `${count} layers: first tensor done`,
      `${first.toFixed(2)} s`,
      `< ${limit} s`,
      first < limit,
    );
    note(`${count} layers: wall time`, `${run.seconds.toFixed(2)} s`);
  } finally {
    fs.rmSync(out, { force: true });
    fs.rmSync(file, { force: true });
  }
}

/** GPTQ of a 4096 x 4096 layer, the whole program, beside the method alone in torch where there is one. */
function benchGptq(): void {
  const { own, torch } = timeGptq({ size: 4096, workers: 2, rounds, python: "python3" });
  note("GPTQ of 4096 x 4096, given Hessian: wall time", `${own.toFixed(2)} s`);
  if (torch === null) {
    note("the same in torch", "not run: no python3 with torch");
    return;
  }
  note("the same in torch, the method alone", `${torch.toFixed(2)} s`);
  const limit = LIMITS.torchRatio;
  judge("torch / GPTQ", (torch / own).toFixed(2), `>= ${limit}`, torch / own >= limit);
}

/** Output errors of every method against rounding to nearest. */
async function benchMethods(): Promise<void> {
  const { rows, missed: misses } = await benchQuality({ layers: 5, seed: 1 });
  missed += misses;
  for (const [mode, , a16, a8, sqnr, target = "", verdict = ""] of rows.slice(1)) {
    results.push([`${mode}: W8A16, W8A8, SQNR`, `${a16}, ${a8}, ${sqnr}`, target, verdict]);
  }
}

const temporary = flags.dir === undefined;
if (flags.dir !== undefined) fs.mkdirSync(flags.dir, { recursive: true });
const folder = flags.dir ?? fs.mkdtempSync(path.join(os.tmpdir(), "quantsmith-bench-"));
try {
  if (!hasGnuTime()) console.error(NO_GNU_TIME);
  if (["speed", "remote", "edit", "start"].some((name) => sections.includes(name))) {
    const tensors = fluxLikeOfBytes(MODEL_SIZES.bench, modelBytes);
    const name = `quantsmith-bench-${modelBytes / MB}mb.safetensors`;
    const model = prepare(path.join(folder, name), tensors, modelBytes);
    if (sections.includes("speed")) await benchSpeed(model);
    if (sections.includes("remote")) await benchRemote(model);
    if (sections.includes("edit")) await benchEdit(model);
    if (sections.includes("start")) await benchStart(model);
  }
  if (sections.includes("merge")) await benchMerge(folder);
  if (sections.includes("tensor")) await benchTensor(folder);
  if (sections.includes("layers")) await benchLayers(folder);
  if (sections.includes("config")) await benchConfig(folder);
  if (sections.includes("learned")) await benchLearned(folder);
  if (sections.includes("gptq")) benchGptq();
  if (sections.includes("quality")) await benchMethods();
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
console.log((flags.markdown ? renderMarkdown : renderTable)(results));
process.exitCode = missed > 0 ? 1 : 0;
