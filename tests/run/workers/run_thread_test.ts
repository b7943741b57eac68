import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { WorkerPool } from "../../../src/run/workers/worker_pool.ts";
import { startRunThread } from "../../../src/run/workers/run_thread.ts";
import { temporaryFolder } from "../../support/model_files.ts";

/** Writes a script, and returns its URL. */
function scriptFile(folder: string, script: string): URL {
  const file = join(folder, "script.mjs");
  writeFileSync(file, script);
  return pathToFileURL(file);
}

/** A script that fails when it gets its first message. */
const FAILS = 'globalThis.onmessage = () => { throw new RangeError("nothing works"); };';

Deno.test("startRunThread() reports the failure of a script once to listeners that come after it", async () => {
  using folder = temporaryFolder();
  const thread = startRunThread(scriptFile(folder.path, FAILS));
  try {
    await new Promise((resolve) => setTimeout(resolve, 0));
    const error = await new Promise<Error>((resolve) => thread.listen(() => {}, resolve));
    assert.match(error.message, /nothing works/);
    const again = await new Promise<Error>((resolve) => thread.listen(() => {}, resolve));
    assert.equal(again, error);
  } finally {
    thread.terminate();
  }
});

Deno.test("WorkerPool.run() fails with the reason if its threads fail", async () => {
  using folder = temporaryFolder();
  using pool = new WorkerPool(scriptFile(folder.path, FAILS), 1);
  await assert.rejects(
    pool.run({ inputPaths: [], outputs: [], tasks: [] }),
    /^Error: Cannot run a worker: RangeError: nothing works$/,
  );
});

Deno.test("startRunThread() listens to the last listeners alone", async () => {
  using folder = temporaryFolder();
  const url = scriptFile(folder.path, "globalThis.onmessage = ({ data }) => postMessage(data);");
  const thread = startRunThread(url);
  const heard: unknown[] = [];
  try {
    const wait = (name: string) =>
      new Promise<void>((resolve, reject) => {
        thread.listen((message) => {
          heard.push([name, message.kind]);
          if (message.kind === "finished") resolve();
        }, reject);
      });
    for (const name of ["first", "second"]) {
      const end = wait(name);
      thread.send({ kind: "finished" });
      await end;
    }
  } finally {
    thread.terminate();
  }
  const mine = heard.filter((words) => (words as string[])[1] === "finished");
  assert.deepEqual(mine, [["first", "finished"], ["second", "finished"]]);
});
