/** One series of faults each: what is done to a command, and what is wrong afterwards. */

import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import type { Trial } from "./commands.ts";
import { faultsAfter, faultsAtEnd } from "./judge.ts";
import { type Ended, type Fault, runToEnd } from "./process.ts";

/** Findings of a series. */
export interface Outcome {
  /** Faults that were brought about. */
  readonly trials: number;
  /** Losses and leftovers, one sentence each. */
  readonly losses: readonly string[];
}

/** Numbers in [0, 1), the same in every campaign of a seed. */
export type Random = () => number;

/** Returns one of `list`. */
export function pick<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)]!;
}

/** System calls at which a process is killed: all that change what is on the disk. */
const KILL_CALLS = [
  "rename",
  "link,linkat",
  "unlink",
  "fsync",
  "ftruncate",
  "pwrite64",
  "write",
  "utimensat",
  "statfs",
] as const;

/** A folder for a command, with the files of before if there are any. */
function folderFor(trial: Trial, path: string, hadOld: boolean): string {
  mkdirSync(path, { recursive: true });
  if (hadOld) { for (const [name, bytes] of trial.old) writeFileSync(join(path, name), bytes); }
  else trial.brings?.(path);
  return path;
}

/** Makes a killed run look an hour old, so that its lock need not be watched. */
function age(folder: string): void {
  const hourAgo = new Date(Date.now() - 3_600_000);
  for (const name of readdirSync(folder)) {
    if (name.endsWith(".lock")) utimesSync(join(folder, name), hourAgo, hourAgo);
  }
}

/** Runs a command to its end after faults, and returns what is wrong then. */
async function finish(trial: Trial, folder: string, hadOld: boolean): Promise<string[]> {
  age(folder);
  const plain = trial.args(folder);
  const first = trial.resumes === true && !hadOld ? plain : [...plain, "--force"];
  let ended = await runToEnd(first);
  // Interrupted by somebody else on this machine: what it keeps then is to be gone on with.
  if (ended.code === 130) ended = await runToEnd(first);
  // Complete already, or something that only `--force` replaces: it says so.
  if (ended.code === 1 && /--force/.test(ended.stderr) && faultsAtEnd(trial, folder).length > 0) {
    ended = await runToEnd([...plain, "--force"]);
  }
  const faults = faultsAtEnd(trial, folder);
  if (faults.length > 0) faults.push(`it ended with ${ended.code}: ${ended.stderr.slice(-300)}`);
  return faults;
}

/** Kills a command some times in a row, each time on what the last one left; then lets it end. */
export async function killSeries(
  trial: Trial,
  folder: string,
  { random, kills, strace }: { random: Random; kills: number; strace: boolean },
): Promise<Outcome> {
  const hadOld = random() < 0.5;
  folderFor(trial, folder, hadOld);
  const losses: string[] = [];
  const args = hadOld ? [...trial.args(folder), "--force"] : trial.args(folder);
  if (trial.resumes && random() < 0.7) {
    // A journal, which runs of less than two seconds only keep when they are interrupted.
    await interruptLate(args, folder, { elapsedMs: trial.elapsedMs, random });
  }
  for (let kill = 0; kill < kills; kill++) {
    const at = random();
    const call = pick(random, KILL_CALLS), count = 1 + Math.floor(random() ** 3 * 40);
    const fault: Fault = strace && random() < 0.5
      ? { strace: injected(call, `signal=KILL:when=${count}`) }
      : { killAfterMs: trial.elapsedMs * (0.2 + 0.9 * at) };
    await runToEnd(args, fault);
    const how = fault.strace === undefined ? `at ${at.toFixed(3)}` : `at ${call} ${count}`;
    for (const loss of faultsAfter(trial, folder, hadOld)) {
      losses.push(`${trial.name}, killed ${how}: ${loss}`);
    }
    if (random() < 0.9) age(folder);
  }
  for (const loss of await finish(trial, folder, hadOld)) {
    losses.push(`${trial.name}, after ${kills} kills: ${loss}`);
  }
  return { trials: kills, losses };
}

function injected(calls: string, what: string): string[] {
  return [
    "-f",
    "-qq",
    "--seccomp-bpf",
    "-o",
    "/dev/null",
    "-e",
    `trace=${calls.split(":")[0]}`,
    "-e",
    `inject=${calls}:${what}`,
  ];
}

/** Interrupts a run at some time after its work began; it keeps what it has finished. */
async function interruptLate(
  args: readonly string[],
  folder: string,
  { elapsedMs, random }: { elapsedMs: number; random: Random },
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await runToEnd(args, {
    onStart: (pid) => {
      const wait = 0.4 * elapsedMs * random();
      const look = () => {
        const hasBegun = readdirSync(folder).some((name) => name.endsWith(".partial"));
        timer = hasBegun
          ? setTimeout(() => process.kill(pid, "SIGINT"), wait)
          : setTimeout(look, 3);
      };
      look();
    },
    onEnd: () => clearTimeout(timer),
  });
}

/** Flips a bit in something that an interrupted run left, and resumes. */
export async function flipSeries(trial: Trial, folder: string, random: Random): Promise<Outcome> {
  folderFor(trial, folder, false);
  await interruptLate(trial.args(folder), folder, { elapsedMs: trial.elapsedMs, random });
  const left = readdirSync(folder).filter((name) => /\.(partial|journal)$/.test(name));
  if (left.length === 0) return { trials: 0, losses: [] };
  const name = pick(random, left), path = join(folder, name);
  const bytes = readFileSync(path);
  if (bytes.length === 0) return { trials: 0, losses: [] };
  const at = Math.floor(random() * bytes.length);
  bytes[at]! ^= 1 << Math.floor(random() * 8);
  writeFileSync(path, bytes);
  const losses = await finish(trial, folder, false);
  return {
    trials: 1,
    losses: losses.map((l) => `${trial.name}, bit of byte ${at} of ${name}: ${l}`),
  };
}

/** Errors of the disk, by system call. */
const DISK_ERRORS = [
  "pread64:error=EIO",
  "pread64:retval=0",
  "pread64:error=EINTR",
  "pwrite64:error=EIO",
  "pwrite64:error=ENOSPC",
  "pwrite64:error=EDQUOT",
  "fsync:error=EIO",
  "ftruncate:error=ENOSPC",
  "rename:error=EIO",
  "rename:error=ENOSPC",
  "link,linkat:error=EPERM",
  "link,linkat:error=EIO",
  "unlink:error=EACCES",
] as const;

/** Lets one system call of a command fail. */
export async function diskSeries(trial: Trial, folder: string, random: Random): Promise<Outcome> {
  const hadOld = random() < 0.5;
  folderFor(trial, folder, hadOld);
  const args = hadOld ? [...trial.args(folder), "--force"] : trial.args(folder);
  const error = pick(random, DISK_ERRORS), count = 1 + Math.floor(random() ** 2 * 30);
  const ended = await runToEnd(args, { strace: injected(error, `when=${count}`) });
  const what = `${trial.name}, ${error} at ${count}, exit ${ended.code}`;
  return await judged(trial, folder, { ended, hadOld, what });
}

/** After a fault that does not kill: all is well, or nothing happened; the next run ends well. */
async function judged(
  trial: Trial,
  folder: string,
  { ended, hadOld, what }: { ended: Ended; hadOld: boolean; what: string },
): Promise<Outcome> {
  // The runtime's own files could not be read: the program was never there.
  if (/error while loading shared libraries/.test(ended.stderr)) return { trials: 0, losses: [] };
  const losses = faultsAfter(trial, folder, hadOld);
  if (ended.signal !== null) losses.push(`it hangs, or ended by ${ended.signal}`);
  if (ended.code !== 0 && !/error: /.test(ended.stderr)) {
    losses.push(`no word of it: ${ended.stderr}`);
  }
  losses.push(...await finish(trial, folder, hadOld));
  return { trials: 1, losses: losses.map((loss) => `${what}: ${loss}`) };
}

/** Every read and write takes fewer bytes than asked for: results are the same. */
export async function shortSeries(trial: Trial, folder: string, shim: string): Promise<Outcome> {
  folderFor(trial, folder, false);
  const ended = await runToEnd(trial.args(folder), { env: { LD_PRELOAD: shim } });
  const losses = faultsAtEnd(trial, folder);
  if (ended.code !== 0) losses.push(ended.stderr.slice(-300));
  return {
    trials: 1,
    losses: losses.map((loss) => `${trial.name}, short reads and writes: ${loss}`),
  };
}

/** Ways to change an input. */
const CHANGES: readonly ((path: string, other: string) => void)[] = [
  (path) => appendFileSync(path, "more"),
  (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2)),
  (path, other) => renameSync(other, path),
  (path, other) => writeFileSync(path, readFileSync(other)),
];

/** Changes the input of a command while it reads: what is written is that of one of the two, or nothing. */
export async function changeSeries(
  trial: Trial,
  folder: string,
  { random, original, changed, changedPath }: {
    random: Random;
    original: string;
    /** The same command with the other model, and the path of that. */
    changed: Trial;
    changedPath: string;
  },
): Promise<Outcome> {
  mkdirSync(folder, { recursive: true });
  const out = folderFor(trial, join(folder, "out"), false);
  const own = join(folder, basename(original)), other = join(folder, "other");
  copyFileSync(original, own);
  copyFileSync(changedPath, other);
  const change = pick(random, CHANGES);
  const args = trial.args(out).map((word) => word === original ? own : word);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const ended = await runToEnd(args, {
    onStart: () => timer = setTimeout(() => change(own, other), trial.elapsedMs * (0.2 + random())),
  });
  clearTimeout(timer);
  const ofFirst = faultsAtEnd(trial, out), ofSecond = faultsAtEnd(changed, out);
  const isNothing = readdirSync(out).length === 0;
  const isWell = ended.code === 0 ? ofFirst.length === 0 || ofSecond.length === 0 : isNothing;
  const losses = isWell
    ? []
    : [`exit ${ended.code}, ${ofFirst.join("; ")} ${ended.stderr.slice(-200)}`];
  return { trials: 1, losses: losses.map((loss) => `${trial.name}, input changed: ${loss}`) };
}

/** Runs a command on a disk that is too small for it, or nearly. Needs root. */
export async function fullSeries(trial: Trial, folder: string, random: Random): Promise<Outcome> {
  mkdirSync(folder, { recursive: true });
  const bytes = [...trial.expected.values()].reduce((sum, { length }) => sum + length, 0);
  const size = Math.floor(bytes * (0.2 + 1.2 * random())) + 8192;
  const mount = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "campaign", folder]);
  if (mount.status !== 0) return { trials: 0, losses: [] };
  try {
    const ended = await runToEnd(trial.args(folder));
    const losses = ended.code === 0
      ? faultsAtEnd(trial, folder)
      // Of several models those before are complete.
      : [
        ...faultsAfter(trial, folder, false),
        ...readdirSync(folder).filter((n) => n.startsWith(".")).map((name) => `${name} is left`),
      ];
    if (ended.code !== 0 && !/error: .*(disk|free)/.test(ended.stderr)) losses.push(ended.stderr);
    return { trials: 1, losses: losses.map((l) => `${trial.name}, disk of ${size} bytes: ${l}`) };
  } finally {
    spawnSync("umount", [folder]);
  }
}

/** Compiles the shim that cuts reads and writes short; null: there is no compiler. */
export function shortShim(folder: string): string | null {
  const source = join(folder, "short.c"), shim = join(folder, "short.so");
  writeFileSync(source, SHORT);
  const made = spawnSync("cc", ["-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"]);
  return made.status === 0 && existsSync(shim) ? shim : null;
}

const SHORT = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
static size_t cut(size_t n) { return n > 16 ? 1 + rand() % n : n; }
#define CUT(name, buffer) \\
  ssize_t name(int fd, buffer data, size_t n, off64_t at) { \\
    static ssize_t (*real)(int, buffer, size_t, off64_t); \\
    if (!real) real = dlsym(RTLD_NEXT, #name); \\
    return real(fd, data, cut(n), at); \\
  }
CUT(pread, void *)
CUT(pread64, void *)
CUT(pwrite, const void *)
CUT(pwrite64, const void *)
`;
