import assert from "node:assert/strict";
import { Disk, doorOf } from "../../../web/files/disk.ts";
import { createBell, createLink, DiskService } from "../../../web/files/disk_channel.ts";
import { mount, setDisk } from "../../../web/files/file_table.ts";
import { MemoryStore } from "../../../web/files/output_store.ts";
import * as fs from "../../../web/node/fs.ts";

/** The reader of workers in browsers, as far as the tests need it: bytes that are there at once. */
class Reader {
  readAsArrayBuffer(blob: TestBlob): ArrayBuffer {
    if (blob.failure !== null) throw new DOMException("gone", blob.failure);
    return blob.data.slice().buffer;
  }
}
class TestBlob extends Blob {
  failure: string | null = null;
  constructor(readonly data: Uint8Array<ArrayBuffer>) {
    super([data]);
  }
  override slice(from = 0, to = this.size): TestBlob {
    const part = new TestBlob(this.data.slice(from, to));
    part.failure = this.failure;
    return part;
  }
}
(globalThis as { FileReaderSync?: unknown }).FileReaderSync = Reader;

/** Makes a model, a LoRA in a folder of its own, and an empty output known. */
function prepare(): { model: TestBlob; store: MemoryStore } {
  const model = new TestBlob(Uint8Array.of(1, 2, 3, 4, 5));
  const lora = new TestBlob(Uint8Array.of(9));
  const store = new MemoryStore(1000);
  mount(
    [
      { path: "/model.safetensors", blob: model, timeMs: 1234 },
      { path: "/lora1/lora.safetensors", blob: lora, timeMs: 1 },
    ],
    doorOf(new Disk(store)),
  );
  setDisk({ connection: null, free: 500 });
  return { model, store };
}

function codeOf(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return "nothing";
}

Deno.test("fs reads given files by position, under the names they have", () => {
  prepare();
  const fd = fs.openSync("model.safetensors");
  const view = new Uint8Array(4).fill(7);
  assert.equal(fs.readSync(fd, view, 1, 3, 3), 2);
  assert.deepEqual([...view], [7, 4, 5, 7]);
  assert.equal(fs.fstatSync(fd).size, 5);
  assert.equal(fs.fstatSync(fd, { bigint: true }).mtimeNs, 1234_000_000n);
  fs.closeSync(fd);
  assert.equal(codeOf(() => fs.readSync(fd, view, 0, 1, 0)), "EBADF");
  assert.deepEqual(fs.readFileSync("/lora1/lora.safetensors"), Uint8Array.of(9));
  assert.deepEqual(fs.readdirSync("/lora1"), ["lora.safetensors"]);
  assert.ok(fs.statSync("lora1")!.isDirectory());
  assert.equal(codeOf(() => fs.openSync("model.safetensors", "r+")), "EACCES");
  assert.equal(codeOf(() => fs.statSync("none")), "ENOENT");
  assert.equal(fs.statSync("none", { throwIfNoEntry: false }), undefined);
});

Deno.test("fs fails for a given file that the browser cannot read any more, as soon as it is looked at", () => {
  const { model } = prepare();
  model.failure = "NotReadableError";
  assert.equal(codeOf(() => fs.statSync("model.safetensors")), "ECHANGED");
  assert.throws(
    () => fs.openSync("model.safetensors"),
    /changed, moved or removed.*choose it again/,
  );
  model.failure = "NotFoundError";
  assert.equal(codeOf(() => fs.statSync("model.safetensors")), "ENOENT");
});

Deno.test("fs writes the output folder, and knows what is free in it", () => {
  const { store } = prepare();
  assert.deepEqual(fs.statfsSync("/output"), { bavail: 500, bsize: 1 });
  const fd = fs.openSync("output/.x.partial", "wx+");
  assert.equal(codeOf(() => fs.openSync("output/.x.partial", "wx+")), "EEXIST");
  fs.ftruncateSync(fd, 10);
  fs.writeSync(fd, Uint8Array.of(0, 1, 2, 3), 1, 2, 8);
  assert.deepEqual([...store.bytes], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
  fs.renameSync("output/.x.partial", "/output/x");
  assert.ok(fs.existsSync("output/x") && !fs.existsSync("output/.x.partial"));
  fs.writeFileSync("output/.lock", "me", { flag: "wx" });
  assert.equal(fs.readFileSync("output/.lock", "utf8"), "me");
  fs.utimesSync("output/.lock", new Date(5), new Date(7000));
  assert.equal(fs.lstatSync("output/.lock")!.mtimeMs, 7000);
  assert.deepEqual(fs.readdirSync("output"), ["x", ".lock"]);
  fs.rmSync("output/.lock");
  fs.rmSync("output/.lock", { force: true });
  assert.equal(codeOf(() => fs.rmSync("output/.lock")), "ENOENT");
});

for (const canOpen of [true, false]) {
  const how = canOpen
    ? "itself if the browser lets it"
    : "by the disk if the browser does not let it";
  Deno.test(`fs of a thread reads and writes the output ${how}, everything else by the disk`, async () => {
    const store = new MemoryStore(1000), bell = createBell();
    const service = new DiskService(new Disk(store), bell);
    const link = createLink(bell);
    service.connect(link);
    const thread = new Worker(new URL("./fs_thread_worker.ts", import.meta.url), {
      type: "module",
    });
    const said = new Promise((resolve) => thread.onmessage = ({ data }) => resolve(data));
    thread.postMessage({ link, canOpen });
    assert.deepEqual(await said, {
      own: canOpen ? [0, 0, 7, 8, 0, 0] : [0, 0, 0, 0, 0, 0],
      back: [7, 8],
      lock: "me",
      handles: canOpen ? { opened: 1, closed: 1 } : { opened: 0, closed: 0 },
    });
    assert.deepEqual([...store.bytes], canOpen ? [0, 0, 0, 0, 0, 0] : [0, 0, 7, 8, 0, 0]);
    thread.terminate();
    service.close();
    await service.ended;
  });
}
