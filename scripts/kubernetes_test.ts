/**
 * Holds `examples/kubernetes/` against the schema that Kubernetes publishes, as the package `kubernetes-models` has
 * it: wrong values by its validator, unknown fields by its types. Exits 1 if one does not fit.
 *
 *     deno task test:kubernetes
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type IJob, Job } from "kubernetes-models/batch/v1";
import { parseAllDocuments } from "yaml";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const EXAMPLES = join(ROOT, "examples", "kubernetes");

/** Returns what is wrong with a job, one line each; empty: nothing. */
function faultsOf(job: unknown): string[] {
  const faults: string[] = [];
  try {
    new Job(job as IJob).validate();
  } catch (error) {
    faults.push((error as Error).message);
  }
  // Kubernetes' schema lets unknown fields through; the types made of it do not.
  const folder = mkdtempSync(join(ROOT, "scripts", ".kubernetes-"));
  try {
    const file = join(folder, "job.ts");
    writeFileSync(
      file,
      'import type { IJob } from "kubernetes-models/batch/v1";\n' +
        `export const JOB: IJob = ${JSON.stringify(job, null, 2)};\n`,
    );
    const args = ["check", "-q", "--config", join(ROOT, "deno.dev.json"), file];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    if (status !== 0) faults.push(stderr.trim());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return faults;
}

/** Findings without which the check proves nothing. */
function checkTheCheck(job: { spec: Record<string, unknown> }): void {
  const wrong = { ...job, spec: { ...job.spec, completions: "eight" } };
  const strange = { ...job, spec: { ...job.spec, completion: 8 } };
  if (faultsOf(wrong).length > 0 && faultsOf(strange).length > 0) return;
  throw new Error("wrong values or unknown fields are not found");
}

let failed = false;
for (const name of readdirSync(EXAMPLES).filter((name) => name.endsWith(".yaml"))) {
  for (const document of parseAllDocuments(readFileSync(join(EXAMPLES, name), "utf8"))) {
    const job = document.toJS();
    checkTheCheck(job);
    const faults = [...document.errors.map(({ message }) => message), ...faultsOf(job)];
    console.log(`${name}: ${faults.length === 0 ? "fits the schema" : faults.join("; ")}`);
    failed ||= faults.length > 0;
  }
}
process.exitCode = failed ? 1 : 0;
