/**
 * Repeats faults and counts what they cost: kills at random times and at system calls, bits flipped in what was
 * left, short reads and writes, errors of the disk, inputs changed while they are read, full disks, servers
 * that misbehave.
 *
 *     deno task campaign [--trials N] [--seed S] [--minutes M] [--lanes L] [--only KIND,...] [--keep]
 *
 * N kills (default 1000), and the other faults in proportion, L series at a time (default 2). Prints trials and losses of each kind, and exits
 * 1 if there is a loss: a file that is neither the old nor the new one, an old one that is gone, a result with
 * other bytes, something that the next run leaves. strace, a C compiler and root are used if they are there.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { measure, prepareCommands, type Trial } from "./campaign/commands.ts";
import {
  changeSeries,
  diskSeries,
  flipSeries,
  fullSeries,
  killSeries,
  type Outcome,
  pick,
  shortSeries,
  shortShim,
} from "./campaign/series.ts";
import { serverSeries } from "./campaign/servers.ts";

const { values } = parseArgs({
  options: {
    trials: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    minutes: { type: "string", default: "60" },
    lanes: { type: "string", default: "2" },
    only: { type: "string" },
    keep: { type: "boolean", default: false },
  },
});
const kills = Number(values.trials), endMs = Date.now() + 60_000 * Number(values.minutes);

/** Kills in a row before a command may end. */
const KILLS_IN_A_ROW = 4;

/** Losses that are printed. */
const SHOWN = 40;

let state = Number(values.seed) >>> 0;
function random(): number {
  // Mulberry32: any campaign can be repeated by its seed, but for the times of kills.
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

const base = mkdtempSync(join(tmpdir(), "quantsmith-campaign-"));
const inputs = join(base, "in");
const commands = await prepareCommands(inputs);
const trials: Trial[] = [];
for (const [i, command] of commands.entries()) {
  trials.push(await measure(command, join(base, `whole-${i}`)));
}
const resuming = trials.filter(({ resumes }) => resumes === true);
const convert = trials[0]!;
const hasStrace = spawnSync("strace", ["-qq", "-o", "/dev/null", "true"]).status === 0;
const shim = shortShim(base);
const isRoot = process.getuid?.() === 0;
const [changedModel, model] = [
  join(inputs, "changed.safetensors"),
  join(inputs, "model.safetensors"),
];
const changed = await changedTrial();

/** The same conversion of another model of the same form. */
async function changedTrial(): Promise<Trial> {
  const bytes = Deno.readFileSync(model);
  for (let i = bytes.length >> 1; i < bytes.length; i += 2) bytes[i]! ^= 0x11;
  Deno.writeFileSync(changedModel, bytes);
  const args = (folder: string) =>
    convert.args(folder).map((word) => word === model ? changedModel : word);
  return await measure({ ...convert, args }, join(base, "changed"));
}

/** A kind of fault, and how many series of it there are for so many kills. */
interface Kind {
  readonly name: string;
  readonly series: number;
  readonly missing: string | null;
  readonly run: (folder: string) => Promise<Outcome>;
}

const part = (share: number) => Math.ceil(kills * share);
const noStrace = hasStrace ? null : "strace is missing";
const KINDS: readonly Kind[] = [
  {
    name: "kills",
    series: Math.ceil(kills / KILLS_IN_A_ROW),
    missing: null,
    run: (folder) => {
      const options = { random, kills: KILLS_IN_A_ROW, strace: hasStrace };
      return killSeries(next(trials), folder, options);
    },
  },
  {
    name: "bit flips",
    series: part(0.06),
    missing: null,
    run: (folder) => flipSeries(next(resuming), folder, random),
  },
  {
    name: "disk errors",
    series: part(0.1),
    missing: noStrace,
    run: (folder) => diskSeries(next(trials), folder, random),
  },
  {
    name: "short reads",
    series: Math.min(trials.length, part(0.02)),
    missing: shim === null ? "no C compiler" : null,
    run: (folder) => shortSeries(next(trials), folder, shim!),
  },
  {
    name: "changed inputs",
    series: part(0.03),
    missing: null,
    run: (folder) =>
      changeSeries(convert, folder, {
        random,
        original: model,
        changed,
        changedPath: changedModel,
      }),
  },
  {
    name: "full disks",
    series: part(0.03),
    missing: isRoot ? null : "not run by root",
    run: (folder) => fullSeries(next(trials.filter((t) => t.brings === undefined)), folder, random),
  },
  {
    name: "servers",
    series: part(0.04),
    missing: null,
    run: (folder) => serverSeries(convert, folder, { random, model }),
  },
];

let turn = 0;
/** The commands in turn, so that each gets its share. */
function next(list: readonly Trial[]): Trial {
  return list[turn++ % list.length] ?? pick(random, list);
}

const losses: string[] = [];
for (const kind of KINDS) {
  if (values.only !== undefined && !values.only.split(",").includes(kind.name)) continue;
  if (kind.missing !== null) {
    console.log(`${kind.name}: skipped, ${kind.missing}`);
    continue;
  }
  let count = 0, lost = 0, started = 0;
  const lane = async () => {
    while (started < kind.series && Date.now() < endMs) {
      const folder = join(base, `${kind.name.replace(" ", "-")}-${started++}`);
      const outcome = await kind.run(folder);
      count += outcome.trials;
      lost += outcome.losses.length;
      losses.push(...outcome.losses);
      for (const loss of outcome.losses) console.error(`LOSS ${loss}`);
      if (outcome.losses.length === 0 || !values.keep) {
        rmSync(folder, { recursive: true, force: true });
      }
    }
  };
  const startedMs = Date.now();
  await Promise.all(Array.from({ length: Number(values.lanes) }, lane));
  const cut = started < kind.series ? `, ended early after ${values.minutes} minutes` : "";
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(0);
  console.log(`${kind.name}: ${count} trials, ${lost} losses, ${seconds} s${cut}`);
}
console.log(losses.length === 0 ? "0 losses" : `${losses.length} losses`);
for (const loss of losses.slice(0, SHOWN)) console.log(`  ${loss}`);
if (!values.keep) rmSync(base, { recursive: true, force: true });
process.exitCode = losses.length === 0 ? 0 : 1;
