import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Disk, doorOf } from "../../../web/files/disk.ts";
import {
  createBell,
  createLink,
  type DiskLink,
  DiskService,
} from "../../../web/files/disk_channel.ts";
import { MemoryStore } from "../../../web/files/output_store.ts";
import { FileError } from "../../../web/files/random_access_file.ts";
import { synthetic } from "./synthetic.ts";

const PARTIAL = "/output/.model.safetensors.partial";

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof FileError) return error.code;
    throw error;
  }
  return "nothing";
}

Deno.test("Disk keeps the partial file in its store and everything else in memory", () => {
  const store = new MemoryStore(1000);
  const door = doorOf(new Disk(store));
  const lock = door({ op: "open", path: "/output/.lock", flags: "wx" }) as number;
  const file = door({ op: "open", path: PARTIAL, flags: "wx+" }) as number;
  const bytes = synthetic(100, 1);
  door({ op: "truncate", file, size: 300 });
  door({ op: "write", file, view: bytes, position: 150 });
  door({ op: "write", file: lock, view: bytes, position: 0 });
  assert.equal(store.size, 300);
  assert.deepEqual(store.bytes.subarray(150, 250), bytes);
  door({ op: "rename", from: PARTIAL, to: "/output/model.safetensors" });
  const again = door({ op: "open", path: "/output/model.safetensors", flags: "r" }) as number;
  const back = new Uint8Array(200);
  assert.equal(door({ op: "read", file: again, view: back, position: 150 }), 150);
  assert.deepEqual(back.subarray(0, 100), bytes);
  assert.deepEqual(door({ op: "list" }), ["/output/.lock", "/output/model.safetensors"]);
});

Deno.test("Disk fails as a file system does", () => {
  const door = doorOf(new Disk(new MemoryStore(1000)));
  const file = door({ op: "open", path: PARTIAL, flags: "wx+" }) as number;
  assert.equal(codeOf(() => door({ op: "open", path: PARTIAL, flags: "wx+" })), "EEXIST");
  assert.equal(codeOf(() => door({ op: "open", path: "/output/none", flags: "r" })), "ENOENT");
  assert.equal(codeOf(() => door({ op: "remove", path: "/output/none" })), "ENOENT");
  assert.equal(codeOf(() => door({ op: "truncate", file, size: 1001 })), "ENOSPC");
  assert.equal(door({ op: "stat", path: "/output/none" }), null);
  const second = { op: "open", path: "/output/.other.partial", flags: "wx+" } as const;
  assert.equal(codeOf(() => door(second)), "EMFILE");
});

/** Starts a thread that gets the link `link`. */
function clientOf(script: string, link: DiskLink): Worker {
  const client = new Worker(new URL(script, import.meta.url), { type: "module" });
  client.postMessage(link);
  return client;
}

function saidBy(client: Worker): Promise<unknown> {
  return new Promise((resolve) => client.onmessage = ({ data }) => resolve(data));
}

for (const hasWaitAsync of [true, false]) {
  const how = hasWaitAsync ? "" : ", to one that has no Atomics.waitAsync too";
  Deno.test(`doorBehind() carries bytes of shared and of own memory, and errors, to another thread${how}`, async () => {
    const { waitAsync } = Atomics as { waitAsync?: unknown };
    if (!hasWaitAsync) Object.assign(Atomics, { waitAsync: undefined });
    try {
      const store = new MemoryStore(1 << 24);
      const bell = createBell();
      const service = new DiskService(new Disk(store), bell);
      const link = createLink(bell);
      const client = clientOf("./disk_client_worker.ts", link);
      const said = saidBy(client);
      // A thread may ask before the disk knows its link.
      const state = new Int32Array(link.talk, 0, 1);
      while (Atomics.load(state, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      service.connect(link);
      assert.deepEqual(await said, { isSame: true, count: 3_000_000, code: "ENOENT" });
      assert.ok(Buffer.from(store.bytes).equals(synthetic(3_000_000, 5)));
      client.terminate();
      service.close();
      await service.ended;
    } finally {
      Object.assign(Atomics, { waitAsync });
    }
  });
}

Deno.test("doorBehind() waits for the answer, whatever else wakes it", async () => {
  const link = createLink(createBell());
  const client = clientOf("./disk_asker_worker.ts", link);
  const said = saidBy(client);
  const cells = new Int32Array(link.talk, 0, 2);
  // As a thread that answered before may do late. The client may not wait yet: again until it did.
  while (Atomics.notify(cells, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const text = new TextEncoder().encode('["a"]');
  new Uint8Array(link.talk, 8).set(text);
  cells[1] = text.length;
  Atomics.store(cells, 0, 2);
  Atomics.notify(cells, 0);
  assert.deepEqual(await said, ["a"]);
  client.terminate();
});
