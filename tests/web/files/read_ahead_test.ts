import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import { BlockTable } from "../../../src/core/block_table.ts";
import {
  BLOCK_BYTES,
  CELL,
  createReadAhead,
  ReadAhead,
  type ReadAheadMemory,
} from "../../../web/files/read_ahead.ts";
import { ReadAheadService } from "../../../web/files/read_ahead_service.ts";
import type { ReadJob } from "./read_ahead_client_worker.ts";
import { synthetic } from "./synthetic.ts";

type Reads = ReadJob["reads"];

/** Lets one thread per list of reads read file 1 of `service`; returns what each read gave. */
async function readBy(
  service: ReadAheadService,
  memory: ReadAheadMemory,
  lists: readonly Reads[],
): Promise<Uint8Array[][]> {
  return await Promise.all(lists.map(async (reads) => {
    const { port1, port2 } = new MessageChannel();
    service.connect(port2);
    const script = new URL("./read_ahead_client_worker.ts", import.meta.url);
    const client = new Worker(script, { type: "module" });
    const said = await new Promise<Uint8Array[]>((resolve) => {
      client.onmessage = ({ data }) => resolve(data);
      client.postMessage({ link: { memory, port: port1 }, file: 1, reads }, [port1]);
    });
    client.terminate();
    port2.close();
    return said;
  }));
}

/** A Blob whose streams fail after so many bytes, and that counts what is taken from them. */
class WatchedBlob extends Blob {
  taken = 0;
  constructor(
    readonly data: Uint8Array<ArrayBuffer>,
    readonly most = Infinity,
    /** Time that each piece of its streams takes. */
    readonly delayMs = 0,
    /** Whether its streams read into memory that is there, as those of browsers do. */
    readonly isByob = false,
  ) {
    super([data]);
  }
  override slice(from = 0, to = this.size): WatchedBlob {
    const count = (bytes: number) => this.taken += bytes;
    const part = new WatchedBlob(
      this.data.subarray(from, to),
      this.most - from,
      this.delayMs,
      this.isByob,
    );
    part.stream = () => {
      let at = 0;
      const source = {
        pull: async (
          controller: ReadableStreamDefaultController | ReadableByteStreamController,
        ) => {
          if (this.delayMs > 0) await new Promise((done) => setTimeout(done, this.delayMs));
          if (at >= part.most) return controller.error(new DOMException("", "NotReadableError"));
          const bytes = part.data.slice(at, at + 300_000);
          if (bytes.length === 0) {
            controller.close();
            if ("byobRequest" in controller) controller.byobRequest?.respond(0);
            return;
          }
          at += bytes.length;
          count(bytes.length);
          controller.enqueue(bytes);
        },
      };
      return this.isByob
        ? new ReadableStream({ type: "bytes", ...source }) as ReadableStream<
          Uint8Array<ArrayBuffer>
        >
        : new ReadableStream<Uint8Array<ArrayBuffer>>(source, { highWaterMark: 0 });
    };
    return part;
  }
}

const FILE = synthetic(20 * BLOCK_BYTES + 12345, 3);

function assertGives(said: readonly Uint8Array[], reads: Reads): void {
  for (const [i, [position, length]] of reads.entries()) {
    const expected = FILE.subarray(position, position + length);
    assert.ok(Buffer.from(said[i]!).equals(expected), `read ${i} of ${length} at ${position}`);
  }
}

Deno.test("ReadAhead gives several threads the bytes of a file, in any order", async () => {
  const memory = createReadAhead();
  const service = new ReadAheadService(new Map([[1, new Blob([FILE])]]), memory);
  const step = 700_001;
  const all = Array.from({ length: Math.ceil(FILE.length / step) }, (_, i): [number, number] => [
    i * step,
    Math.min(step, FILE.length - i * step),
  ]);
  const lists: Reads[] = [
    all.filter((_, i) => i % 2 === 0),
    all.filter((_, i) => i % 2 === 1),
    all.toReversed(),
    [[0, FILE.length], [5 * BLOCK_BYTES - 100_000, 200_000], [5, 100_000]],
  ];
  const said = await readBy(service, memory, lists);
  for (const [i, reads] of lists.entries()) assertGives(said[i]!, reads);
});

Deno.test("ReadAhead ends with the file, also if the browser cannot read into memory that is there", async () => {
  const memory = createReadAhead();
  const service = new ReadAheadService(new Map([[1, new WatchedBlob(FILE)]]), memory);
  const end = FILE.length;
  const [said] = await readBy(service, memory, [[[end - 100_000, 200_000], [end - 10, 10]]]);
  assert.ok(Buffer.from(said![0]!).equals(FILE.subarray(end - 100_000)));
  assert.ok(Buffer.from(said![1]!).equals(FILE.subarray(end - 10)));
});

Deno.test("ReadAhead leaves short reads of absent blocks, and what streams cannot read, to the caller", async () => {
  const memory = createReadAhead();
  const blob = new WatchedBlob(FILE, 2 * BLOCK_BYTES);
  const service = new ReadAheadService(new Map([[1, blob]]), memory);
  const [short] = await readBy(service, memory, [[[0, 1000]]]);
  assert.deepEqual(short!.map(({ length }) => length), [0]);
  assert.equal(blob.taken, 0);
  const [long] = await readBy(service, memory, [[[0, 4 * BLOCK_BYTES], [0, 1000]]]);
  assert.ok(Buffer.from(long![0]!).equals(FILE.subarray(0, long![0]!.length)));
  assert.ok(long![0]!.length <= 2 * BLOCK_BYTES);
  const [after] = await readBy(service, memory, [[[10 * BLOCK_BYTES, BLOCK_BYTES]]]);
  assert.deepEqual(after!.map(({ length }) => length), [0]);
});

Deno.test("ReadAhead brings slow blocks to more threads than it has runs, each at its own place", async () => {
  const memory = createReadAhead();
  const blob = new WatchedBlob(FILE, Infinity, 60);
  const service = new ReadAheadService(new Map([[1, blob]]), memory);
  const lists = [0, 5, 10, 15].map((block): Reads => [[block * BLOCK_BYTES, 5 * BLOCK_BYTES]]);
  const said = await readBy(service, memory, lists);
  for (const [i, reads] of lists.entries()) assertGives(said[i]!, reads);
});

for (const isByob of [false, true]) {
  const kind = isByob ? "memory that is there" : "memory of its own";
  Deno.test(`ReadAheadService shows no block of which only a part came into ${kind}, and brings it later`, async () => {
    const memory = createReadAhead();
    const blob = new WatchedBlob(FILE, Infinity, 20, isByob);
    const service = new ReadAheadService(new Map([[1, blob]]), memory);
    const table = new BlockTable(memory.table, () => {});
    const waitUntil = async (isSo: () => boolean) => {
      while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const lengthOf = (block: number) => table.pin({ file: 1, block })?.length;
    service.request({ file: 1, block: 0, isRead: false });
    await waitUntil(() => blob.taken > BLOCK_BYTES + 300_000);
    // The run gives way in the middle of block 1, for which nobody waits.
    for (const block of [10, 15]) service.request({ file: 1, block, isRead: false });
    await waitUntil(() => lengthOf(15) !== undefined);
    assert.equal(lengthOf(0), BLOCK_BYTES);
    assert.equal(lengthOf(1), undefined);
    service.request({ file: 1, block: 1, isRead: false });
    const cells = new Int32Array(memory.cells);
    await waitUntil(() => lengthOf(1) !== undefined || cells[CELL.failed] !== 0);
    assert.equal(cells[CELL.failed], 0);
    assert.equal(lengthOf(1), BLOCK_BYTES);
  });
}

/** Returns what waits until nothing more is taken from `blob`, and then says how many blocks were. */
function takenFrom(blob: WatchedBlob): () => Promise<number> {
  return async () => {
    let before = -1;
    while (before !== blob.taken) {
      before = blob.taken;
      for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    return blob.taken / BLOCK_BYTES;
  };
}

Deno.test("ReadAheadService reads a few blocks beyond what was asked for, and more while readers follow", async () => {
  const blob = new WatchedBlob(new Uint8Array(90 * BLOCK_BYTES));
  const service = new ReadAheadService(new Map([[1, blob]]), createReadAhead());
  const taken = takenFrom(blob);
  const read = (block: number) => service.request({ file: 1, block, isRead: true });
  service.request({ file: 1, block: 0, isRead: false });
  assert.equal(await taken(), 4);
  for (const block of [1, 2]) read(block);
  assert.equal(await taken(), 12);
  // They have not followed any further, and nothing is read twice.
  for (const block of [2, 1]) read(block);
  assert.equal(await taken(), 12);
  // By three streams of 6, then three of 8.
  for (const block of [5, 8]) read(block);
  assert.equal(await taken(), 54);
  // As far ahead as they ever are, streams begin four at a time, as soon as there is room for all.
  for (const block of [11, 20]) read(block);
  assert.equal(await taken(), 54);
  read(21);
  assert.equal(await taken(), 86);
});

Deno.test("ReadAheadService reads nothing again because a thread says late that it has read a block", async () => {
  const blob = new WatchedBlob(new Uint8Array(20 * BLOCK_BYTES));
  const service = new ReadAheadService(new Map([[1, blob]]), createReadAhead());
  const taken = takenFrom(blob);
  service.request({ file: 1, block: 10, isRead: false });
  assert.equal(await taken(), 4);
  service.request({ file: 1, block: 2, isRead: true });
  assert.equal(await taken(), 4);
  service.request({ file: 1, block: 2, isRead: false });
  assert.equal(await taken(), 8);
});

Deno.test("ReadAheadService fills blocks that were read again, and keeps those that were not", async () => {
  const memory = createReadAhead();
  const blob = new WatchedBlob(new Uint8Array(160 * BLOCK_BYTES));
  const service = new ReadAheadService(new Map([[1, blob]]), memory);
  const table = new BlockTable(memory.table, () => {});
  const taken = takenFrom(blob);
  const slots = new Set<number>();
  service.request({ file: 1, block: 0, isRead: false });
  await taken();
  for (let block = 0; block < 150; block++) {
    const pin = table.pin({ file: 1, block });
    assert.ok(pin !== null, `block ${block}`);
    slots.add(pin.slot);
    // Nobody reads the third.
    table.unpin(pin.slot, block === 2 ? 0 : pin.length);
    service.request({ file: 1, block, isRead: true });
    await taken();
  }
  assert.notEqual(table.pin({ file: 1, block: 2 }), null);
  // 64 ahead, 8 that stay for a while, and some that are being filled or read.
  assert.ok(slots.size <= 80, `${slots.size}`);
});

Deno.test("ReadAhead gives the same to memory that it expects and to other memory", async () => {
  const memory = createReadAhead();
  const blob = new Blob([FILE]);
  const service = new ReadAheadService(new Map([[1, blob]]), memory);
  service.request({ file: 1, block: 0, isRead: false });
  const table = new BlockTable(memory.table, () => {});
  while (table.pin({ file: 1, block: 1 }) === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const { port1, port2 } = new MessageChannel();
  const ahead = new ReadAhead({ memory, port: port1 });
  const expected = createSharedMemory(4 << 20);
  ahead.expect(expected);
  const views = [
    new Uint8Array(expected.buffer, 12345, 700_000),
    new Uint8Array(700_000),
    new Uint8Array(createSharedMemory(1 << 20).buffer, 8, 700_000),
  ];
  for (const view of views) {
    assert.equal(ahead.read(1, view, 600_001), view.length);
    assert.ok(Buffer.from(view.slice()).equals(FILE.subarray(600_001, 1_300_001)));
  }
  const around = new Uint8Array(expected.buffer);
  assert.equal(around[12344], 0);
  assert.equal(around[712345], 0);
  for (const port of [port1, port2]) port.close();
});
