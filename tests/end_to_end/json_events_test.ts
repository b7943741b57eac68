/** The events that `--json` writes besides those of tensors. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { VERSION } from "../../src/core/version.ts";
import { writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

function eventsOf(stdout: string): Record<string, unknown>[] {
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
}

Deno.test("--json says the version in `start`, and every warning of stderr as an event", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors");
  writeSmallModel(input);
  const { code, stdout, stderr } = await runCli([
    ...[input, join(folder.path, "o.safetensors"), "--json"],
    ...["--simple", "--scaling_mode", "block", "--block_size", "64"],
  ]);
  assert.equal(code, 0, stderr);
  const events = eventsOf(stdout);
  assert.equal(events.find(({ event }) => event === "start")?.["version"], VERSION);
  const said = [...stderr.matchAll(/^warning: (.*)$/gm)].map(([, message]) => message);
  const told = events.filter(({ event }) => event === "warning").map(({ message }) => message);
  assert.notEqual(told.length, 0);
  assert.deepEqual(told, said);
  assert.equal(events.at(-1)!["event"], "done");
});

Deno.test("--json ends with an `error` that names class and exit code if a command fails", async () => {
  using folder = temporaryFolder();
  const missing = join(folder.path, "missing.safetensors");
  for (
    const [args, exitCode, name] of [
      [[missing, "--json"], 1, /Error$/],
      [["inspect", missing, "--json"], 1, /Error$/],
      [[missing, "--json", "--simpel"], 2, /^UsageError$/],
    ] as const
  ) {
    const { code, stdout, stderr } = await runCli(args);
    assert.equal(code, exitCode);
    const last = eventsOf(stdout).at(-1)!;
    assert.equal(last["event"], "error");
    assert.equal(last["exit_code"], exitCode);
    assert.match(String(last["name"]), name);
    assert.equal(stderr.trimEnd(), `error: ${last["message"]}`);
  }
});
