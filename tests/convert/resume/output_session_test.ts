import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Fingerprint } from "../../../src/convert/resume/fingerprint.ts";
import { OutputSession } from "../../../src/convert/resume/output_session.ts";
import { SLOT_LENGTH } from "../../../src/run/layer_statistics.ts";
import { TempFolder } from "../../support/header_fixtures.ts";

const FINGERPRINT: Fingerprint = {
  program: "p",
  device: "d",
  inputs: [],
  work: "w",
  options: {},
};

Deno.test("OutputSession.leave() touches nothing of a run that has taken the output over", async () => {
  using folder = new TempFolder();
  const header = new Uint8Array(16);
  const layout = {
    parts: [{ header, names: [], startBytes: 0, totalBytes: 16 }],
    entries: [],
    totalBytes: 16,
  };
  for (const resume of [false, true]) {
    const session = await OutputSession.open(join(folder.path, "m.safetensors"), layout, {
      force: false,
      resume,
      fingerprint: () => FINGERPRINT,
      tasks: [],
    });
    await session.journal.save({
      chunks: [0],
      slots: new Float64Array(SLOT_LENGTH),
      notes: new Map(),
      written: new Map(),
    });
    const files = [".m.safetensors.journal", ".m.safetensors.lock", ".m.safetensors.partial"];
    // As another run does that found this one standing still.
    for (const name of files) folder.write(name, "of another run");
    await assert.rejects(session.commit(), /Another process has taken over the output/);
    assert.equal(session.leave({ isUseful: true }), false);
    assert.deepEqual(readdirSync(folder.path).sort(), files);
    for (const name of files) {
      assert.equal(readFileSync(join(folder.path, name), "utf8"), "of another run");
    }
    for (const name of files) Deno.removeSync(join(folder.path, name));
  }
});
