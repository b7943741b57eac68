import assert from "node:assert/strict";
import { join } from "node:path";
import { truncateSync } from "node:fs";
import { baseline } from "../../src/cli/commands/conclude.ts";
import { plainRows } from "../../src/convert/plain_rows.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const LAYERS = [{ name: "blocks.0.q.weight", output: null }];

Deno.test("a source that was cut short after the work costs the comparison with plain rows only", () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "in.safetensors");
  writeModel(path, [tensorOf(LAYERS[0]!.name, "F32", [64, 64], new Float32Array(4096).fill(1.5))]);
  const model = openModel(path), warnings: string[] = [];
  const log = { warn: (text: string) => void warnings.push(text) };
  const measure = () => plainRows(model, LAYERS, DEFAULT_CONVERT_OPTIONS);
  assert.notEqual(baseline(measure, log), null);
  assert.deepEqual(warnings, []);
  truncateSync(path, 300);
  assert.equal(baseline(measure, log), null);
  assert.match(
    warnings.join(),
    /^plain rows were not measured .*in\.safetensors.*ends at byte 300/,
  );
  assert.throws(() =>
    baseline(() => {
      throw new TypeError("a defect");
    }, log), TypeError);
});
