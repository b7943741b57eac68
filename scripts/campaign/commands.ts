/** The commands whose faults are tried: what they read, what they write, and what that must be. */

import { copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeCalibratedModel } from "../../tests/support/calibrated_model.ts";
import { type Ended, runToEnd } from "./process.ts";

/** One command. Its files lie in `inputs`, and it is run in a folder of its own. */
export interface Command {
  readonly name: string;
  /** Arguments, with the path of the folder that it writes to. */
  readonly args: (folder: string) => string[];
  /** Files that are in the folder before: parts to be joined. Absent: none. */
  readonly brings?: (folder: string) => void;
  /** It goes on with what a killed run left. */
  readonly resumes?: boolean;
  /** Ends of names of side files that hold times: they need only be complete. */
  readonly loose?: RegExp;
  /** An old file that a kill may take: the manifest of a part, which vouches for a file that is replaced. */
  readonly mayGo?: RegExp;
}

/** A command with what it writes, found by running it undisturbed. */
export interface Trial extends Command {
  /** Output files by name, as they must become. */
  readonly expected: ReadonlyMap<string, Uint8Array>;
  /** Output files by name of another run, which stand there before in some of the trials. */
  readonly old: ReadonlyMap<string, Uint8Array>;
  /** Time of an undisturbed run. */
  readonly elapsedMs: number;
}

/** Files and their bytes in a folder, without the hidden ones. */
export function visibleFiles(folder: string): Map<string, Uint8Array> {
  const names = readdirSync(folder).filter((name) => !name.startsWith("."));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name))]));
}

/** Prepares the inputs in `inputs` and returns the commands. */
export async function prepareCommands(inputs: string): Promise<Command[]> {
  mkdirSync(inputs, { recursive: true });
  const { input: model, calibration } = writeCalibratedModel(inputs, { layers: 6, rows: 512 });
  // Enough work for it to be interrupted in the middle.
  mkdirSync(join(inputs, "large"));
  const { input: large } = writeCalibratedModel(join(inputs, "large"), { layers: 24, rows: 2048 });
  const many = join(inputs, "many");
  mkdirSync(many);
  for (const name of ["a.safetensors", "b.safetensors"]) copyFileSync(model, join(many, name));
  const none = ["--preset", "none", "--no-progress"];
  const quantized = join(inputs, "quantized.safetensors");
  const ctq = join(inputs, "ctq.safetensors");
  const whole = join(inputs, "joined.safetensors");
  for (
    const args of [
      [model, quantized, ...none],
      [model, ctq, "--target", "ctq", "--simple", ...none],
      ...[1, 2].map((part) => [model, whole, "--part", `${part}/2`, ...none]),
    ]
  ) {
    const ended = await runToEnd(args);
    if (ended.code !== 0) throw new Error(`Cannot prepare: ${args.join(" ")}\n${ended.stderr}`);
  }
  const parts = readdirSync(inputs).filter((name) => name.startsWith("joined.part-"));
  const out = (folder: string, name = "out.safetensors") => join(folder, name);
  const gptq = ["--calibration-data", calibration, ...none];
  return [
    { name: "convert", args: (folder) => [model, out(folder), ...none] },
    { name: "convert --resume", args: (f) => [large, out(f), "--resume", ...none], resumes: true },
    {
      name: "convert shards",
      args: (folder) => [model, out(folder), "--shard-size", "300KB", ...none],
    },
    {
      name: "convert gptq shards --resume",
      args: (f) => [large, out(f), "--resume", "--shard-size", "3MB", ...gptq],
      resumes: true,
    },
    {
      name: "convert learned block --resume",
      args: (f) => [
        ...[model, out(f), "--resume", "--optimizer", "original", "--num_iter", "20"],
        ...["--scaling_mode", "block", ...none],
      ],
      resumes: true,
    },
    {
      name: "convert --report --verify",
      args: (f) => [model, out(f), "--report", out(f, "report.json"), "--verify", ...none],
      loose: /report\.json$/,
    },
    {
      name: "dry-run template",
      args: (f) => [model, out(f, "out.json"), "--dry-run", "create-template", ...none],
    },
    {
      name: "convert part",
      args: (f) => [model, out(f), "--part", "1/2", ...none],
      loose: /part-1-of-2\.json$/,
      mayGo: /part-1-of-2\.json$/,
    },
    { name: "edit", args: (f) => ["edit", quantized, out(f), "--remove-keys", ".bias"] },
    { name: "migrate", args: (f) => ["migrate", ctq, out(f)] },
    { name: "dequantize", args: (f) => ["dequantize", quantized, out(f)] },
    { name: "calibrate", args: (f) => ["calibrate", model, out(f), "--preset", "none"] },
    {
      name: "calibrate json",
      args: (f) => ["calibrate", model, out(f, "out.json"), "--preset", "none"],
    },
    {
      name: "join",
      args: (f) => ["join", out(f, "joined.safetensors")],
      brings: (f) => parts.forEach((name) => copyFileSync(join(inputs, name), join(f, name))),
    },
    { name: "batch", args: (f) => ["batch", many, "--output-dir", f, "-y", ...none] },
  ];
}

/** Runs a command undisturbed, and with another seed of what stands there before. */
export async function measure(command: Command, folder: string): Promise<Trial> {
  mkdirSync(folder, { recursive: true });
  command.brings?.(folder);
  const ended: Ended = await runToEnd(command.args(folder));
  if (ended.code !== 0) throw new Error(`${command.name}: ${ended.stderr}`);
  const expected = visibleFiles(folder);
  const old = new Map([...expected].map(([name, bytes]) => [name, otherBytes(name, bytes)]));
  return { ...command, expected, old, elapsedMs: ended.elapsedMs };
}

/** A file of the same form that differs: the last byte of values differs; an index stays. */
function otherBytes(name: string, bytes: Uint8Array): Uint8Array {
  const isData = name.endsWith(".safetensors") && !/\.part-\d+-of-\d+\./.test(name);
  if (!isData) return bytes;
  const other = Uint8Array.from(bytes);
  other[other.length - 1]! ^= 0x55;
  return other;
}
