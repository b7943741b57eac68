/**
 * Runs `examples/slurm/` on a real Slurm: one node, daemons of its own on loopback, all ended at the end.
 *
 *     deno task test:slurm
 *
 * Needs Debian's `slurm-wlm` and `munge`, and root. Says so and exits 2 if they are missing. Exits 1 if the
 * joined file differs from the one of a single run.
 */

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { writeCalibratedModel } from "../tests/support/calibrated_model.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const PARTS = 4;

/** Most time that daemons and jobs are given. */
const WAIT_MS = 180_000;

const missing = ["slurmctld", "slurmd", "munged", "sbatch"].filter((name) =>
  spawnSync("which", [name]).status !== 0
);
if (missing.length > 0 || process.getuid?.() !== 0) {
  const why = missing.length > 0 ? `${missing.join(", ")} missing` : "not run by root";
  console.error(`Cannot test on Slurm: ${why} (apt-get install slurm-wlm munge)`);
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), "quantsmith-slurm-"));
chmodSync(folder, 0o755);
const children: ReturnType<typeof spawn>[] = [];

function daemon(name: string, args: string[], env: Record<string, string> = {}): void {
  const child = spawn(name, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const tell = (text: Uint8Array) => {
    if (process.env["SLURM_TEST_VERBOSE"]) {
      process.stderr.write(`${name}: ${new TextDecoder().decode(text)}`);
    }
  };
  child.stdout!.on("data", tell);
  child.stderr!.on("data", tell);
  children.push(child);
}

function command(name: string, args: string[], env: Record<string, string> = {}): string {
  const { status, stdout, stderr } = spawnSync(name, args, {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${name} ${args.join(" ")} failed: ${stderr}`);
  return stdout.trim();
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while (!isSo()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${WAIT_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function main(): Promise<void> {
  // Apart from a Slurm that the machine may have: own key, own sockets, own ports.
  const key = join(folder, "munge.key"), socket = join(folder, "munge.socket");
  writeFileSync(key, crypto.getRandomValues(new Uint8Array(128)), { mode: 0o400 });
  chownSync(key, 0, 0);
  daemon("munged", [
    "--foreground",
    "--force",
    `--key-file=${key}`,
    `--socket=${socket}`,
    `--pid-file=${folder}/munged.pid`,
    `--seed-file=${folder}/munged.seed`,
    `--log-file=${folder}/munged.log`,
  ]);
  await until("munged", () => existsSync(socket));
  const node = hostname().split(".")[0]!;
  const conf = join(folder, "slurm.conf");
  writeFileSync(
    conf,
    `ClusterName=quantsmith
SlurmctldHost=${node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=${socket}
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=${node} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=${node} Default=YES MaxTime=INFINITE State=UP
`,
  );
  const env = { SLURM_CONF: conf };
  command("mkdir", ["-p", `${folder}/state`, `${folder}/spool`]);
  daemon("slurmctld", ["-D", "-f", conf], env);
  daemon("slurmd", ["-D", "-f", conf, "-N", node], env);
  await until(
    "the node",
    () =>
      spawnSync("sinfo", ["-h", "-o", "%T"], { env: { ...process.env, ...env }, encoding: "utf8" })
        .stdout.trim() === "idle",
  );

  const { input, calibration } = writeCalibratedModel(folder, { layers: 6, rows: 96 });
  const program = join(folder, "quantsmith");
  writeFileSync(
    program,
    `#!/bin/sh\nexec ${process.execPath} run -A --no-check ${ROOT}main.ts "$@"\n`,
  );
  chmodSync(program, 0o755);
  const flags = ["--preset", "none", "--device", "cpu", "--calibration-data", calibration];
  const options = `--chdir=${folder} --output=${folder}/job-%j.log`;
  const jobEnv = { ...env, QUANTSMITH: program, SBATCH_PART: options, SBATCH_JOIN: options };
  for (const [name, more] of [["plain", []], ["fit", ["--fit", "60%"]]] as const) {
    const whole = join(folder, `${name}_whole.safetensors`);
    const out = join(folder, `${name}.safetensors`);
    command(program, [input, whole, ...flags, ...more, "--no-progress"]);
    const words = [`${PARTS}`, input, out, ...flags, ...more];
    console.log(`jobs: ${command(join(ROOT, "examples/slurm/convert.sh"), words, jobEnv)}`);
    await until("the jobs", () => command("squeue", ["-h"], env) === "");
    if (!existsSync(out)) {
      const logs = command("sh", ["-c", `tail -n 5 ${folder}/job-*.log`]);
      throw new Error(`The join wrote nothing:\n${logs}`);
    }
    if (!readFileSync(out).equals(readFileSync(whole))) throw new Error("The joined file differs");
    const told = more.length > 0 ? ` (${more.join(" ")})` : "";
    console.log(`${PARTS} parts by Slurm${told}, joined by a dependent job: the bytes of one run`);
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  for (const child of children.reverse()) {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    if (child.exitCode === null && child.kill("SIGTERM")) await ended;
  }
  rmSync(folder, { recursive: true, force: true });
}
