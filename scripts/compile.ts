/**
 * Builds single binaries with `deno compile`: the program, its workers and kernels, and the Deno
 * runtime with the least permissions.
 *
 *     deno task compile [--target TARGET|all]... [--out DIR]
 *
 * Deno adds its runtime part (`denort`), which it downloads once per version and target. If it
 * cannot, `DENORT_BIN` names a copy. `deno compile` lists what it embeds.
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import {
  binaryPath,
  buildRequest,
  permissionsFor,
  tellBuilt,
  writeChecksums,
} from "./support/binaries.ts";
import { ENTRY, Stage, WORKER } from "./support/stage.ts";

const { targets, out } = buildRequest();
using stage = new Stage();
let failed = 0;
for (const target of targets) {
  const file = binaryPath(out, "quantsmith", target);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "compile",
      "--no-check",
      "--frozen",
      "--node-modules-dir=none",
      "--exclude-unused-npm",
      "--no-prompt",
      ...permissionsFor(target),
      "--include",
      WORKER,
      "--target",
      target,
      "--output",
      file,
      ENTRY,
    ],
    { cwd: stage.path, encoding: "utf8" },
  );
  process.stdout.write(stdout);
  process.stderr.write(status === 0 ? stderr : "");
  if (status === 0) {
    tellBuilt(file);
    continue;
  }
  failed++;
  const url = /https:\/\/dl\.deno\.land\/\S+?\.zip/.exec(stderr)?.[0];
  if (url === undefined) {
    process.stderr.write(stderr);
    console.error(`Cannot build ${file}: deno compile ended with status ${status}`);
  } else {
    console.error(
      `Cannot build ${file}: the runtime part of deno compile cannot be downloaded (${url}). ` +
        "Get that file on a machine that reaches it, unpack it, and name the denort in it by DENORT_BIN; " +
        "or build with Bun: deno task compile:bun",
    );
  }
}
if (failed < targets.length) writeChecksums(out);
process.exitCode = failed > 0 ? 1 : 0;
