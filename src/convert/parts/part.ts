/** Which part of a conversion a machine does, and the names of its files. */

import { join, parse } from "node:path";
import { UsageError } from "../../core/errors.ts";

/** Part `index` of `count`, both from 1. */
export interface Part {
  /** Its number, from 1. */
  readonly index: number;
  /** How many parts there are. */
  readonly count: number;
}

/** The variables of an array of jobs. */
export type JobEnvironment = Readonly<Record<string, string | undefined>>;

/** Says how many parts there are if the array of jobs does not: Kubernetes gives jobs their number alone. */
const COUNT_VARIABLE = "QUANTSMITH_PARTS";

/** A part that nobody asked for on the command line. */
export interface AmbientPart {
  /** Null: the variables say no count, and all of the model is done. */
  readonly part: Part | null;
  /** Warning for users who did not mean it, as a sentence without its period. */
  readonly note: string;
}

/**
 * Returns the part that the variables of an array of jobs name without `--part`; null if there is no array, or
 * one of a single job.
 *
 * @throws UsageError if they name no part of a whole.
 */
export function ambientPart(env: JobEnvironment): AmbientPart | null {
  const own = numberIn(env, "SLURM_ARRAY_TASK_ID") !== null
    ? "SLURM_ARRAY_TASK_ID"
    : numberIn(env, "JOB_COMPLETION_INDEX") !== null
    ? "JOB_COMPLETION_INDEX"
    : null;
  if (own === null) return null;
  const count = numberIn(env, COUNT_VARIABLE);
  if (own === "JOB_COMPLETION_INDEX" && count === null) {
    const note = `${own} is set, and no ${COUNT_VARIABLE}: ALL OF THE MODEL is done by this job; ` +
      "--part auto/N shares it out";
    return { part: null, note };
  }
  if ((count ?? numberIn(env, "SLURM_ARRAY_TASK_COUNT") ?? 1) <= 1) return null;
  const part = parsePart("auto", env)!;
  const note = `this job does PART ${part.index} OF ${part.count} ONLY, as ${own} is ` +
    `${
      env[own]
    }: \`quantsmith join\` makes the output of all parts; --part none does all of it here`;
  return { part, note };
}

/**
 * Returns the part that `text` names: `2/8`, `auto` (number and count from Slurm's array), `auto/8` (number
 * from Slurm's array or a Kubernetes Indexed Job, count as written); null for `none`, all of the model.
 *
 * @throws UsageError if it names none, or if the variables of the job are missing or contradict it.
 */
export function parsePart(text: string, env: JobEnvironment): Part | null {
  if (text === "none") return null;
  const plain = /^(\d+)\/(\d+)$/.exec(text);
  if (plain !== null) return checked(text, Number(plain[1]), Number(plain[2]));
  const auto = /^auto(?:\/(\d+))?$/.exec(text);
  if (auto === null) {
    throw new UsageError(
      `Cannot use --part ${
        JSON.stringify(text)
      }: it is I/N with I from 1 (2/8), auto, auto/N, or none`,
    );
  }
  const given = auto[1] === undefined ? numberIn(env, COUNT_VARIABLE) : Number(auto[1]);
  const task = numberIn(env, "SLURM_ARRAY_TASK_ID");
  if (task !== null) {
    // A count that is written down stands for the whole array, also if only some of it is run again.
    if (given !== null) return checked(text, task, given);
    const count = numberIn(env, "SLURM_ARRAY_TASK_COUNT");
    if (count === null) throw missing(text, "SLURM_ARRAY_TASK_COUNT is not set");
    const first = numberIn(env, "SLURM_ARRAY_TASK_MIN") ?? 1;
    const step = numberIn(env, "SLURM_ARRAY_TASK_STEP") ?? 1;
    return checked(text, (task - first) / step + 1, count);
  }
  const completion = numberIn(env, "JOB_COMPLETION_INDEX");
  if (completion === null) {
    throw missing(text, "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set");
  }
  const count = given;
  if (count === null) {
    throw missing(
      text,
      `JOB_COMPLETION_INDEX says no count: use --part auto/N, N as completions, or set ${COUNT_VARIABLE}`,
    );
  }
  return checked(text, completion + 1, count);
}

function numberIn(env: JobEnvironment, name: string): number | null {
  const text = env[name];
  if (text === undefined || text === "") return null;
  if (/^\d+$/.test(text)) return Number(text);
  throw new UsageError(`Cannot use --part auto: ${name} is ${JSON.stringify(text)}, not a number`);
}

function missing(text: string, why: string): UsageError {
  return new UsageError(`Cannot use --part ${text}: ${why}`);
}

function checked(text: string, index: number, count: number): Part {
  if (Number.isSafeInteger(index) && index >= 1 && index <= count) return { index, count };
  throw new UsageError(
    `Cannot use --part ${text}: there is no part ${index} of ${count}, parts are numbered from 1 to N`,
  );
}

/** Returns the path of a part of the output `path`: `model.part-2-of-8.safetensors`. */
export function partPath(path: string, part: Part): string {
  return partName(`${stemOf(path)}.safetensors`, part);
}

/** Returns the path of what a part makes of `path`: `report.part-2-of-8.html` of `report.html`. */
export function partName(path: string, { index, count }: Part): string {
  const { dir, name, ext } = parse(path);
  return join(dir, `${name}.part-${index}-of-${count}${ext}`);
}

/** Returns the path of the manifest of a part. */
export function manifestPath(path: string, part: Part): string {
  return partPath(path, part).replace(/\.safetensors$/, ".json");
}

/** Returns a path without what is added for one file or an index. */
export function stemOf(path: string): string {
  return path.replace(/\.safetensors(\.index\.json)?$/, "");
}
