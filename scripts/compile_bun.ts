/**
 * Builds single binaries with `bun build --compile`: the program, its workers and kernels, and the Bun
 * runtime. They compute on the CPU only.
 *
 *     deno task compile:bun [--target TARGET|all]... [--out DIR] [--metafile FILE]
 *
 * Bun comes from npm if it is not installed; `BUN_BIN` names another. `--metafile` writes a JSON
 * list of what is inside.
 */

import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import {
  binaryPath,
  buildRequest,
  TARGETS,
  tellBuilt,
  writeChecksums,
} from "./support/binaries.ts";
import { findBun } from "./support/find_bun.ts";
import { ENTRY, Stage, WORKER } from "./support/stage.ts";

const { targets, out, metafile } = buildRequest();
const bun = findBun();
if (bun === null) {
  console.error("Cannot build: Bun is not installed, and npm cannot fetch it; BUN_BIN names one");
  process.exit(1);
}
using stage = new Stage();
stage.installPackages();
let failed = 0;
for (const target of targets) {
  const file = binaryPath(out, "quantsmith-bun", target);
  const { status } = spawnSync(bun, [
    "build",
    "--compile",
    `--target=${TARGETS[target]}`,
    // Parsed and compiled ahead of time, the program starts in a fifth of the time.
    "--bytecode",
    "--format=esm",
    "--minify",
    // Files in the user's folder are no business of the program.
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    ...(metafile === null ? [] : [`--metafile=${path.resolve(metafile)}`]),
    `--outfile=${file}`,
    ENTRY,
    WORKER,
  ], { cwd: stage.path, stdio: ["ignore", "ignore", "inherit"] });
  if (status === 0) tellBuilt(file);
  else {
    failed++;
    console.error(`Cannot build ${file}: bun build ended with status ${status}`);
  }
}
if (failed < targets.length) writeChecksums(out);
process.exitCode = failed > 0 ? 1 : 0;
