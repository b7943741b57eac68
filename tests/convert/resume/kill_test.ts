import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import type { ConvertOptions } from "../../../src/plan/options.ts";
import { writeCalibratedModel } from "../../support/calibrated_model.ts";
import { temporaryFolder } from "../../support/model_files.ts";
import type { ResumableRun } from "../../support/resumable_run.ts";

const SCRIPT = new URL("../../support/resumable_run.ts", import.meta.url).pathname;

interface Ended {
  readonly killed: boolean;
  /** Share that was finished before; -1: none; null: the work did not begin. */
  readonly resumed: number | null;
  readonly layers: unknown;
}

/** When a process is killed: after its journal has got this many entries, and a moment more. */
interface KillPoint {
  readonly entries: number;
  readonly moreMs: number;
}

/** Runs a conversion in a process of its own; kills it at `point` after its work began. */
async function runOnce(
  folder: string,
  run: ResumableRun,
  point: KillPoint | null = null,
): Promise<Ended> {
  const request = join(folder, "request.json");
  writeFileSync(request, JSON.stringify(run));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", SCRIPT, request],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  let killing: Promise<void> | null = null;
  const ended = new AbortController();
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (point !== null && text.includes("begun")) {
      killing ??= kill(child, folder, point, ended.signal);
    }
  }
  const { success, signal } = await child.status;
  ended.abort();
  await killing;
  assert(success || signal === "SIGKILL", text);
  const [begun, layers] = text.split("\n");
  return {
    killed: !success,
    resumed: begun?.startsWith("begun") ? Number(begun.slice(6)) : null,
    layers: success ? JSON.parse(layers!) : null,
  };
}

async function kill(
  child: Deno.ChildProcess,
  folder: string,
  { entries, moreMs }: KillPoint,
  ended: AbortSignal,
): Promise<void> {
  let last = journalBytes(folder);
  for (let seen = 0; seen < entries && !ended.aborted;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = journalBytes(folder);
    if (now > last) seen++;
    last = now;
  }
  if (moreMs > 0) await new Promise((resolve) => setTimeout(resolve, moreMs));
  if (!ended.aborted) child.kill("SIGKILL");
}

function journalBytes(folder: string): number {
  const name = readdirSync(folder).find((name) => name.endsWith(".journal"));
  return name === undefined
    ? 0
    : statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0;
}

/** The files of an output, without what an unfinished run leaves. */
function outputFiles(folder: string, stem: string): Map<string, string> {
  const names = readdirSync(folder).filter((name) => name.startsWith(stem));
  return new Map(
    names.map((name) => [name.slice(stem.length), readFileSync(join(folder, name), "latin1")]),
  );
}

/** Kills and resumes until it is done; compares with an uninterrupted run. Returns shares of resumed work. */
async function killAndResume(
  options: (calibration: string) => Partial<ConvertOptions>,
  { kills, layers, rows, seed }: { kills: number; layers: number; rows: number; seed: number },
): Promise<number[]> {
  using folder = temporaryFolder();
  const { input, calibration } = writeCalibratedModel(folder.path, { layers, rows });
  const run = (stem: string): ResumableRun => ({
    input,
    output: join(folder.path, `${stem}.safetensors`),
    options: options(calibration),
    workers: 2,
    resume: stem === "cut",
    saveMs: 1,
  });
  const whole = await runOnce(folder.path, run("whole"));
  const points = fc.sample(
    fc.record({ entries: fc.integer({ min: 0, max: 4 }), moreMs: fc.integer({ min: 0, max: 5 }) }),
    { numRuns: kills - 1, seed },
  );
  const shares: number[] = [];
  let end: Ended | null = null;
  for (const point of [{ entries: 2, moreMs: 0 }, ...points]) {
    const ended = await runOnce(folder.path, run("cut"), point);
    if (ended.resumed !== null && ended.resumed >= 0) shares.push(ended.resumed);
    if (!ended.killed) {
      end = ended;
      break;
    }
    const found = [...outputFiles(folder.path, "cut").keys()];
    if (found.includes(".safetensors") || found.includes(".safetensors.index.json")) {
      // It was killed when all was done, before it reported its results.
      end = { ...ended, layers: whole.layers };
      break;
    }
  }
  end ??= await runOnce(folder.path, run("cut"));
  if (end.resumed !== null && end.resumed >= 0) shares.push(end.resumed);
  assert.deepEqual(end.layers, whole.layers);
  const expected = outputFiles(folder.path, "whole");
  const got = outputFiles(folder.path, "cut");
  assert.deepEqual([...got.keys()], [...expected.keys()]);
  for (const [name, bytes] of expected) {
    const own = name.endsWith(".json") ? bytes.replaceAll("whole-", "cut-") : bytes;
    assert(got.get(name) === own, `${name} differs`);
  }
  if (!end.killed) {
    assert(!readdirSync(folder.path).some((name) => name.startsWith(".")), "nothing else is left");
  }
  return shares;
}

Deno.test("convertModel() killed again and again and resumed writes what an uninterrupted run does", async () => {
  const shares = await killAndResume(() => ({}), { kills: 5, layers: 24, rows: 3072, seed: 1 });
  assert(shares.some((share) => share > 0), "no run went on with another's work");
});

Deno.test("convertModel() killed and resumed with GPTQ, biases and shards writes what an uninterrupted run does", async () => {
  const shares = await killAndResume(
    (calibrationPath) => ({ calibrationPath, staticActivations: true, shardBytes: 2_000_000 }),
    { kills: 5, layers: 16, rows: 2048, seed: 2 },
  );
  assert(shares.some((share) => share > 0), "no run went on with another's work");
});
