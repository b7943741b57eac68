import assert from "node:assert/strict";
import { existsSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../../src/core/errors.ts";
import { OutputLock } from "../../src/safetensors/output_lock.ts";
import { TempFolder } from "../support/header_fixtures.ts";

/** A lock that nobody touches is watched this long: seldom touched ones must not seem left. */
const TIMES = { touchMs: 5, watchMs: 2000 };

Deno.test("OutputLock.take() refuses while another owner lives, and takes what was given back", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "lock");
  const first = await OutputLock.take(path, "out", TIMES);
  await assert.rejects(OutputLock.take(path, "out", TIMES), (error) => {
    assert(error instanceof UnsupportedError);
    assert.match(error.message, /"out": another process is writing it/);
    return true;
  });
  first.check();
  first.release();
  assert(!existsSync(path));
  const second = await OutputLock.take(path, "out", TIMES);
  second.release();
  second.release();
  assert.deepEqual(readdirSync(folder.path), []);
});

Deno.test("OutputLock.take() takes a lock that nobody touches, at once if it is old", async () => {
  using folder = new TempFolder();
  const path = folder.write("lock", "somebody");
  const lock = await OutputLock.take(path, "out", { touchMs: 5, watchMs: 30 });
  lock.check();
  lock.release();
  folder.write("lock", "somebody");
  const hourAgo = new Date(Date.now() - 3_600_000);
  utimesSync(path, hourAgo, hourAgo);
  const old = await OutputLock.take(path, "out", { touchMs: 5, watchMs: 1e9 });
  old.release();
});

Deno.test("OutputLock.check() throws once another process has taken over, whose lock release() leaves", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "lock");
  const lock = await OutputLock.take(path, "out", TIMES);
  folder.write("lock", "another");
  assert.throws(() => lock.check(), /Another process has taken over/);
  lock.release();
  assert(existsSync(path));
});
