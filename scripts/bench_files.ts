/** Benches of whole files: conversions beside copies, servers beside disks, edits, start-up. */

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { writeSyntheticModel } from "../tests/support/synthetic_model.ts";
import { weight } from "../tests/support/synthetic_shapes.ts";
import { timeRemote } from "./bench_remote.ts";
import {
  type Bench,
  convert,
  copyAndSync,
  PACKAGE,
  prepare,
  quantsmith,
  seconds,
} from "./support/bench_run.ts";
import { type Measurement, median, settlePageCache } from "./support/measure.ts";

const RTN = ["--simple", "--scaling_mode", "row"];

/** The targets. */
const LIMITS = {
  rtnRatio: 1.15,
  defaultRatio: 1.5,
  editRatio: 1.3,
  startSeconds: 0.15,
  remoteRatio: 1.3,
  remotePeakBytes: 200e6,
  rtnPeakBytes: 110e6,
  defaultPeakBytes: 150 * 2 ** 20,
};

/** Converts next to nothing, so that the runtime has translated all code: a first run takes 50 MB more for it. */
async function fillCodeCache(folder: string): Promise<void> {
  const file = path.join(folder, "quantsmith-bench-warm.safetensors");
  writeSyntheticModel(file, [weight("blocks.0.linear", 256, 256)]);
  try {
    for (const args of [RTN, []]) await convert(file, ["--preset", "none", ...args]);
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** Wall time beside cp + sync, interleaved, with a warm cache. */
export async function benchSpeed(bench: Bench, model: string): Promise<void> {
  await fillCodeCache(path.dirname(model));
  execFileSync("sh", ["-c", 'cat "$1" > /dev/null', "sh", model]);
  const copies: number[] = [];
  const rtn: Measurement[] = [];
  const byDefault: Measurement[] = [];
  const packaged: Measurement[] = [];
  for (let round = 1; round <= bench.rounds; round++) {
    settlePageCache(model);
    copies.push(await copyAndSync(model));
    settlePageCache(model);
    rtn.push(await convert(model, RTN));
    settlePageCache(model);
    byDefault.push(await convert(model, []));
    if (fs.existsSync(PACKAGE)) {
      settlePageCache(model);
      packaged.push(await convert(model, RTN, { onNode: true }));
    }
    console.error(
      `Round ${round} of ${bench.rounds}: cp+sync ${copies.at(-1)!.toFixed(2)} s, ` +
        `RTN ${rtn.at(-1)!.seconds.toFixed(2)} s, default ${
          byDefault.at(-1)!.seconds.toFixed(2)
        } s`,
    );
  }
  const copy = median(copies);
  const size = `${(fs.statSync(model).size / 1e9).toFixed(2)} GB`;
  bench.note(`cp + sync of ${size}`, seconds(copies));
  for (
    const [what, runs, limit, peak] of [
      ["RTN per row", rtn, LIMITS.rtnRatio, LIMITS.rtnPeakBytes],
      ["default mode", byDefault, LIMITS.defaultRatio, LIMITS.defaultPeakBytes],
    ] as const
  ) {
    const times = runs.map((run) => run.seconds);
    const ratio = median(times) / copy;
    bench.note(`${what}: wall time`, seconds(times));
    bench.judge(`${what}: wall / cp+sync`, ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
    bench.judgePeak(`${what}: peak memory`, runs, peak);
  }
  if (packaged.length === 0) return;
  const what = "RTN per row, the package on Node";
  bench.note(`${what}: wall time`, seconds(packaged.map((run) => run.seconds)));
  bench.judgePeak(`${what}: peak memory`, packaged, LIMITS.rtnPeakBytes);
}

/** The default mode from a server on loopback beside the same from the file. */
export async function benchRemote(bench: Bench, model: string): Promise<void> {
  const { local, remote } = await timeRemote(model, {
    rounds: bench.rounds,
    convert: (source, out) =>
      quantsmith([source, out, "--no-progress", "--workers", "2"], { memory: true }),
  });
  const times = [local, remote].map((runs) => runs.map((run) => run.seconds));
  const ratio = median(times[1]!) / median(times[0]!);
  bench.note("default mode, from a server: wall time", seconds(times[1]!));
  const { remoteRatio, remotePeakBytes } = LIMITS;
  bench.judge(
    "from a server / from the file",
    ratio.toFixed(2),
    `<= ${remoteRatio}`,
    ratio <= remoteRatio,
  );
  const peak = Math.max(...remote.map((run) => run.peakBytes));
  bench.judge(
    "from a server: peak memory",
    `${(peak / 1e6).toFixed(0)} MB`,
    `<= ${remotePeakBytes / 1e6} MB`,
    peak <= remotePeakBytes,
  );
}

/** Edits and exact migrations of a quantized file move bytes: wall time beside cp + sync, interleaved. */
export async function benchEdit(bench: Bench, model: string): Promise<void> {
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
    for (let round = 1; round <= bench.rounds; round++) {
      copies.push(await copyAndSync(file));
      edits.push(await write("edit", "--add-keys", "full_precision_matrix_mult: true"));
      migrations.push(await write("migrate"));
      console.error(
        `Round ${round} of ${bench.rounds}: cp+sync ${copies.at(-1)!.toFixed(2)} s, ` +
          `edit ${edits.at(-1)!.seconds.toFixed(2)} s, ` +
          `migrate ${migrations.at(-1)!.seconds.toFixed(2)} s`,
      );
    }
    const size = `${(fs.statSync(file).size / 1e9).toFixed(2)} GB`;
    bench.note(`cp + sync of ${size}, int8`, seconds(copies));
    for (const [what, runs] of [["edit", edits], ["exact migration", migrations]] as const) {
      const times = runs.map((run) => run.seconds);
      const ratio = median(times) / median(copies);
      const limit = LIMITS.editRatio;
      bench.note(`${what}: wall time`, seconds(times));
      bench.judge(`${what}: wall / cp+sync`, ratio.toFixed(2), `<= ${limit}`, ratio <= limit);
      bench.judgePeak(`${what}: peak memory`, runs);
    }
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** A single tensor of 2 GiB: memory must not follow the size of a tensor either. */
export async function benchTensor(bench: Bench, folder: string): Promise<void> {
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
      bench.note(`2 GiB tensor, ${what}: wall time`, `${run.seconds.toFixed(2)} s`);
      bench.judgePeak(`2 GiB tensor, ${what}: peak memory`, [run]);
    }
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** How long the shortest commands take. */
export async function benchStart(bench: Bench, model: string): Promise<void> {
  for (const [what, args] of [["--help", ["--help"]], ["inspect", ["inspect", model]]] as const) {
    await quantsmith(args); // the first run fills the runtime's cache
    const times: number[] = [];
    for (let k = 0; k < 9; k++) times.push((await quantsmith(args)).seconds);
    const limit = LIMITS.startSeconds;
    const typical = median(times);
    bench.judge(
      `${what}: median of ${times.length}`,
      `${(typical * 1000).toFixed(0)} ms`,
      `< ${limit * 1000} ms`,
      typical < limit,
    );
  }
}
