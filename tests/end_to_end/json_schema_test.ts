/** The schemas in `docs/schema` describe what the program really writes, and all JSON names keys alike. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { checkerOf, oddKeys, schemaOf } from "../support/json_schema.ts";
import { everyMethod, writeCalibration, writeSmallModel } from "../support/method_model.ts";
import { temporaryFolder } from "../support/model_files.ts";
import { runCli } from "../support/run_cli.ts";

type Event = Record<string, unknown> & { readonly event: string };

function eventsOf(stdout: string): Event[] {
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
}

const EVENTS = schemaOf("events.schema.json");

/** Checks each event by the part of the schema that is for its kind: clearer than `oneOf`. */
function checkEvents(events: readonly Event[]): void {
  for (const event of events) {
    const reference = `#/$defs/${event.event}_event`;
    const { $defs } = EVENTS as { $defs: Record<string, unknown> };
    assert.ok(`${event.event}_event` in $defs, `the schema lacks the event ${event.event}`);
    checkerOf({ $schema: EVENTS["$schema"], $defs, $ref: reference })(event);
  }
}

Deno.test("--json and --report FILE.json follow their schemas in every method", async (t) => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const [input, data] = [at("m.safetensors"), at("data.safetensors")];
  writeSmallModel(input);
  writeCalibration(data);
  const checkReport = checkerOf(schemaOf("report.schema.json"));
  for (const [i, method] of everyMethod(data).entries()) {
    await t.step(
      method.map((word) => word === data ? "DATA" : word).join(" ") || "(default)",
      async () => {
        const report = at(`r${i}.json`);
        const { code, stdout, stderr } = await runCli([
          ...[input, at(`o${i}.safetensors`), ...method],
          ...["--json", "--verify", "--report", report],
        ]);
        assert.equal(
          code === 0 || method.includes("block") || method.includes("--quip-store-transformed"),
          true,
          stderr,
        );
        const events = eventsOf(stdout);
        checkEvents(events);
        assert.deepEqual(events.at(-1)!.event, "done");
        assert.deepEqual(oddKeys(events), []);
        const written = JSON.parse(readFileSync(report, "utf8"));
        checkReport(written);
        assert.deepEqual(oddKeys(written), []);
      },
    );
  }
});

Deno.test("events of failures, edits, migrations and batches follow the schema", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const input = at("m.safetensors"), blocks = at("blocks.safetensors");
  writeSmallModel(input);
  const made = await runCli([
    input,
    blocks,
    "--simple",
    "--scaling_mode",
    "block",
    "--block_size",
    "64",
  ]);
  assert.equal(made.code, 0, made.stderr);
  const kinds = new Set<string>();
  for (
    const args of [
      [at("missing.safetensors")],
      ["edit", blocks, at("edited.safetensors"), "--save-quant-metadata"],
      ["migrate", blocks, at("migrated.safetensors")],
      ["batch", input, blocks, "-y"],
    ]
  ) {
    const events = eventsOf((await runCli([...args, "--json"])).stdout);
    checkEvents(events);
    assert.deepEqual(oddKeys(events), []);
    for (const { event } of events) kinds.add(event);
  }
  for (const kind of ["error", "change", "batch", "file", "batch_done"]) {
    assert.ok(kinds.has(kind), kind);
  }
});

Deno.test("the schemas refuse what they should: a missing key, a wrong type, an unknown key", () => {
  const check = checkerOf({
    ...EVENTS,
    oneOf: undefined,
    $ref: "#/$defs/error_event",
  });
  const error = { event: "error", name: "Error", message: "m", exit_code: 1 };
  check(error);
  const { message: _, ...without } = error;
  assert.throws(() => check(without));
  assert.throws(() => check({ ...error, exit_code: "1" }));
  assert.throws(() => check({ ...error, exitCode: 1 }));
});

Deno.test("all other JSON has keys in snake case", async () => {
  using folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const [input, output] = [at("m.safetensors"), at("o.safetensors")];
  writeSmallModel(input);
  assert.equal((await runCli([input, output])).code, 0);
  for (
    const args of [
      [input, "--dry-run"],
      ["inspect", output],
      ["verify", output, "--source", input],
      ["presets", "list"],
      ["presets", "show", "flux2"],
      ["presets", "show", "hunyuan_video"],
      ["presets", "detect", input],
    ]
  ) {
    const { stdout, stderr } = await runCli([...args, "--json"]);
    // Keys of these are names of dtypes, formats and tensors.
    const maps = ["dtypes", "dtype_bytes", "quantized", "metadata", "shape"];
    assert.deepEqual(oddKeys(JSON.parse(stdout), maps), [], stderr);
  }
});
