/**
 * Kills parts of a conversion at random times, repeats them, in any order, joins them with kills, too, and
 * compares the result with the file of one run, byte for byte.
 *
 *     deno run -A scripts/parts_campaign.ts [--trials 100] [--parts 2,3,7] [--kill 0.5] [--seed 1] [--at-once 1]
 *         [--straggle 0] [--layers 8] [--rows 256]
 *
 * Each trial takes one of the numbers of parts. `--kill` is how likely a run of a part, or of the join, is killed
 * (SIGKILL, at a random moment of a run's usual time); every run goes on with `--resume` or begins anew, by chance.
 * `--straggle` is how likely a run stands still for three times its usual time (SIGSTOP, SIGCONT).
 *
 *     deno run -A scripts/parts_campaign.ts --trials 1 --parts 100 --layers 100 --rows 32 --kill 0.2 --straggle 0.1 \
 *         --at-once 4
 *
 * is an array of 100 jobs with failures and stragglers. Prints one line per trial, then trials, kills and differences; exits 1 if a file differs.
 */

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { writeCalibratedModel } from "../tests/support/calibrated_model.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

const { values } = parseArgs({
  options: {
    trials: { type: "string", default: "100" },
    parts: { type: "string", default: "2,3,7" },
    kill: { type: "string", default: "0.5" },
    straggle: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    "at-once": { type: "string", default: "1" },
    layers: { type: "string", default: "8" },
    rows: { type: "string", default: "256" },
    help: { type: "boolean" },
  },
});
if (values.help) {
  console.log(
    "Usage: parts_campaign.ts [--trials N] [--parts N,...] [--kill P] [--seed N] [--at-once N]",
  );
  process.exit(0);
}

/** A generator of numbers from 0 to 1: xorshift, so that a campaign can be run once more. */
function randomFrom(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const random = randomFrom(Number(values.seed));
const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;

/** Result of a run: its exit code, or null if it was killed. */
function run(
  args: readonly string[],
  killAfterMs: number | null,
  stop: { afterMs: number; forMs: number } | null = null,
): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["run", "-A", "--no-check", "-q", MAIN, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr!.on("data", (text) => said += text);
    const timer = killAfterMs === null
      ? undefined
      : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
    const pauses = stop === null ? [] : [
      setTimeout(() => child.kill("SIGSTOP"), stop.afterMs),
      setTimeout(() => child.kill("SIGCONT"), stop.afterMs + stop.forMs),
    ];
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      for (const each of [timer, ...pauses]) clearTimeout(each);
      if (signal === null && code !== 0) {
        reject(new Error(`${args.join(" ")} exited ${code}: ${said}`));
      } else resolve(code);
    });
  });
}

interface Tally {
  runs: number;
  kills: number;
  stragglers: number;
}

/** Runs until it is done; killed ones are repeated. */
async function insist(
  args: (attempt: number) => string[],
  { tally, usualMs, killShare, straggleShare }: {
    tally: Tally;
    usualMs: number;
    killShare: number;
    straggleShare: number;
  },
): Promise<void> {
  for (let attempt = 0;; attempt++) {
    // Nobody is killed for ever.
    const isDoomed = attempt < 5 && random() < killShare;
    tally.runs++;
    const stop = random() < straggleShare
      ? { afterMs: random() * usualMs, forMs: 3 * usualMs }
      : null;
    if (stop !== null) tally.stragglers++;
    if (await run(args(attempt), isDoomed ? random() * usualMs : null, stop) === 0) return;
    tally.kills++;
  }
}

const folder = mkdtempSync(join(tmpdir(), "quantsmith-campaign-"));
try {
  const made = writeCalibratedModel(folder, {
    layers: Number(values.layers),
    rows: Number(values.rows),
  });
  const whole = join(folder, "whole.safetensors");
  const words = [made.input, "--preset", "none", "--device", "cpu", "--no-progress"];
  const modes = [[], ["--simple"], ["--calibration-data", made.calibration], [
    "--shard-size",
    "100KB",
  ]];
  const counts = values.parts.split(",").map(Number);
  const killShare = Number(values.kill), straggleShare = Number(values.straggle);
  const atOnce = Number(values["at-once"]);
  const total = { runs: 0, kills: 0, stragglers: 0, differences: 0 };
  const started = performance.now();
  for (let trial = 1; trial <= Number(values.trials); trial++) {
    const count = pick(counts), mode = pick(modes), place = join(folder, `trial-${trial}`);
    mkdirSync(place);
    const tally: Tally = { runs: 0, kills: 0, stragglers: 0 };
    const begun = performance.now();
    await run([...words.slice(0, 1), whole, ...words.slice(1), ...mode, "--force"], null);
    const usualMs = performance.now() - begun;
    const output = join(place, "out.safetensors");
    // In any order, some of them twice.
    const order = Array.from({ length: count }, (_, i) => i + 1)
      .flatMap((part) => random() < 0.2 ? [part, part] : [part])
      .map((part) => ({ part, at: random() })).sort((a, b) => a.at - b.at);
    const queue = order.map(({ part }) => part), busy = new Set<number>();
    const worker = async (): Promise<void> => {
      for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
        while (busy.has(part)) await new Promise((resolve) => setTimeout(resolve, 20));
        busy.add(part);
        const again = () => random() < 0.5 ? ["--resume"] : [];
        await insist(
          () => [
            words[0]!,
            output,
            ...words.slice(1),
            ...mode,
            ...again(),
            "--part",
            `${part}/${count}`,
          ],
          { tally, usualMs, killShare, straggleShare },
        );
        busy.delete(part);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    await insist(() => ["join", output, "--no-progress", "--force"], {
      tally,
      usualMs,
      killShare,
      straggleShare,
    });
    const names = mode.includes("--shard-size")
      ? filesOf(folder, "whole").map((name) => [name, name.replace(/^whole/, "out")] as const)
      : [["whole.safetensors", "out.safetensors"] as const];
    const differs = names.filter(([a, b]) =>
      !sameBytes(join(folder, a), join(place, b), a.endsWith(".json"))
    );
    total.runs += tally.runs;
    total.kills += tally.kills;
    total.stragglers += tally.stragglers;
    if (differs.length > 0) total.differences++;
    const verdict = differs.length === 0 ? "same bytes" : `DIFFERS: ${differs.join(", ")}`;
    console.log(
      `trial ${trial}: ${count} parts, ${mode.join(" ").replace(folder, "") || "default"}, ` +
        `${tally.runs} runs, ${tally.kills} killed: ${verdict}`,
    );
    rmSync(place, { recursive: true, force: true });
    for (const name of filesOf(folder, "whole")) rmSync(join(folder, name));
    rmSync(whole, { force: true });
  }
  const minutes = (performance.now() - started) / 60_000;
  console.log(
    `${values.trials} trials, ${total.runs} runs, ${total.kills} killed, ${total.stragglers} stragglers, ` +
      `${total.differences} ` +
      `${total.differences === 1 ? "difference" : "differences"}, ${minutes.toFixed(1)} minutes`,
  );
  process.exitCode = total.differences === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Names in a folder that begin with `stem` and are files of an output. */
function filesOf(place: string, stem: string): string[] {
  return readdirSync(place).filter((name) =>
    name.startsWith(stem) && /\.(safetensors|json)$/.test(name)
  );
}

function sameBytes(a: string, b: string, isIndex: boolean): boolean {
  if (!existsSync(b)) return false;
  // An index names the files of its own output.
  if (isIndex) {
    return readFileSync(a, "utf8").replaceAll("whole", "out") === readFileSync(b, "utf8");
  }
  return readFileSync(a).equals(readFileSync(b));
}
