import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { openInput } from "../../src/run/workers/remote_input.ts";
import { writeCalibratedModel } from "../support/calibrated_model.ts";
import { WORKER_URL } from "../support/encode.ts";
import { FileServer } from "../support/file_server.ts";
import { temporaryFolder } from "../support/model_files.ts";

interface Converted {
  readonly notes: string[];
  readonly files: string[];
}

/** Converts a model of a server; `change` alters its bytes once the work has begun. */
async function convertFrom(
  etag: string | null,
  change: (bytes: Uint8Array) => Uint8Array,
): Promise<Converted> {
  using folder = temporaryFolder();
  const { input } = writeCalibratedModel(folder.path, { layers: 4, rows: 512 });
  const files = { "m.safetensors": new Uint8Array(readFileSync(input)) };
  await using server = await FileServer.start({ files, etag });
  using out = temporaryFolder();
  const notes: string[] = [];
  using opened = await openInput(server.url("m.safetensors"), {
    workerUrl: WORKER_URL,
    spillFolder: out.path,
    patience: { silenceMs: 20_000, attempts: 2, firstWaitMs: 1 },
    onNote: (note) => notes.push(note),
  });
  try {
    await convertModel({
      input: opened.model,
      output: join(out.path, "out.safetensors"),
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
      workerUrl: WORKER_URL,
      workers: 1,
      onPlan: () => files["m.safetensors"] = new Uint8Array(change(files["m.safetensors"])),
    });
  } catch (error) {
    assert.deepEqual(readdirSync(out.path), []);
    throw error;
  }
  return { notes, files: readdirSync(out.path) };
}

const same = (bytes: Uint8Array) => bytes;
const other = (bytes: Uint8Array) => bytes.map((byte, i) => i > bytes.length / 2 ? byte ^ 1 : byte);

Deno.test("a server without ETag and date is reported, and its file is converted if it stays the same", async () => {
  const { notes, files } = await convertFrom(null, same);
  assert.match(notes.join(), /gives no ETag and no date .* second look/);
  assert.deepEqual(files, ["out.safetensors"]);
  assert.deepEqual((await convertFrom('"v1"', same)).notes, []);
});

Deno.test("a file of the same size on a server without ETag that changes during the work gives no output", async () => {
  await assert.rejects(convertFrom(null, other), /has changed while it was read/);
  await assert.rejects(
    convertFrom(null, (bytes) => bytes.slice(0, -8)),
    /has changed while it was read/,
  );
});
