/** Every default stands in one place, which help, manual, command line and library follow. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { FLAGS } from "../../src/cli/flags/table.ts";
import { defaultText } from "../../src/cli/flags/flag.ts";

const PROGRAM = fileURLToPath(new URL("support/changed_defaults.ts", import.meta.url));

Deno.test("help, manual, command line and library follow every default that changes", () => {
  const { stdout, stderr } = spawnSync(process.execPath, [
    "run",
    "-A",
    "--quiet",
    "--no-check",
    PROGRAM,
  ], {
    encoding: "utf8",
  });
  assert.notEqual(stdout, "", stderr);
  const seen = JSON.parse(stdout);
  const help = seen.help.replaceAll(/\s+/g, " ");
  assert.deepEqual(seen.commandLine.options, seen.defaults);
  assert.deepEqual(seen.library, seen.defaults);
  assert.deepEqual(seen.commandLine.io.gpuMemory, seen.placement);
  assert.equal(seen.commandLine.io.qualityThreshold, seen.run.qualityThresholdDb);
  assert.equal(seen.commandLine.io.verbosity, seen.run.verbosity);
  for (const more of [seen.withMore, seen.libraryWithMore]) {
    assert.deepEqual(more.segments, seen.segments);
    assert.deepEqual(more.merge, {
      ...seen.merge,
      paths: ["l.safetensors"],
      strict: more.merge.strict,
    });
  }
  // Flags that cannot have another default: words of the one target, switches that have no option.
  const fixed = new Set([
    "target",
    "preset",
    "format",
    "linear-dtype",
    "codebook",
    "int8",
    "progress",
    "open",
    "quip-hadamard",
  ]);
  for (const word of ["streaming-mode", "bf16-compute", "lr_schedule", "device", "tier"]) {
    fixed.add(word);
  }
  const unchanged = FLAGS.filter((flag) =>
    flag.default !== undefined && defaultText(flag) !== "" && flag.defaultNote === undefined &&
    !fixed.has(flag.name) && seen.flags[flag.name][1] === defaultText(flag)
  );
  assert.deepEqual(unchanged.map(({ name }) => name), []);
  for (const [name, [, text]] of Object.entries<[string, string]>(seen.flags)) {
    if (text !== "" && text !== "on") assert.ok(help.includes(`[${text}]`), `${name} ${text}`);
  }
});
