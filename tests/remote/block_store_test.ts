import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { BlockStore } from "../../src/remote/block_store.ts";
import { BlockTable } from "../../src/core/block_table.ts";
import { createChannel, type FileRange } from "../../src/remote/channel.ts";
import type { StoreSizes } from "../../src/remote/store_sizes.ts";
import { httpFile } from "../../src/remote/location.ts";
import { type Fault, FileServer, type SeenRequest } from "../support/file_server.ts";

const SIZES: StoreSizes = {
  blockBytes: 1000,
  requestBlocks: 3,
  connections: 2,
  windowBlocks: 6,
  urgentBlocks: 2,
};

const FILES = [25_300, 0, 9_999].map((length, file) =>
  Uint8Array.from({ length }, (_, i) => (i * 2654435761 + file) >>> 13)
);

interface Bench extends AsyncDisposable {
  readonly server: FileServer;
  readonly store: BlockStore;
  readonly folder: string;
  /** Reads as a client does: in as many answers as it takes. */
  read(file: number, begin: number, end: number): Promise<Uint8Array>;
}

async function bench(
  fault?: (request: SeenRequest) => Fault | null,
  hasParts = true,
): Promise<Bench> {
  const server = await FileServer.start({
    files: Object.fromEntries(FILES.map((bytes, file) => [String(file), bytes])),
    ...(fault === undefined ? {} : { fault }),
  });
  const folder = mkdtempSync(join(tmpdir(), "quantsmith-test-"));
  const channel = createChannel(SIZES);
  const store = new BlockStore(
    FILES.map(({ length }, file) => ({
      file: httpFile(server.url(String(file))),
      version: { bytes: length, etag: '"v1"', lastModified: null, hasParts },
    })),
    {
      channel,
      spillFolder: folder,
      patience: { silenceMs: 20_000, attempts: 2, firstWaitMs: 1 },
    },
  );
  const table = new BlockTable(channel.table, () => store.tidy());
  const box = new Uint8Array(400);
  return {
    server,
    store,
    folder,
    async read(file, begin, end) {
      const bytes = new Uint8Array(end - begin);
      for (let done = 0; done < bytes.length;) {
        const view = new Uint8Array(box.length);
        const wanted = { file, positionBytes: begin + done, length: bytes.length - done, view };
        const answer = await store.read(wanted);
        if (answer.kind === "lent") {
          bytes.set(new Uint8Array(channel.blocks, answer.offsetBytes, answer.length), done);
          table.unpin(Math.floor(answer.offsetBytes / SIZES.blockBytes), answer.length);
        } else bytes.set(view.subarray(0, answer.length), done);
        done += answer.length;
      }
      return bytes;
    },
    async [Symbol.asyncDispose]() {
      store[Symbol.dispose]();
      rmSync(folder, { recursive: true });
      await server[Symbol.asyncDispose]();
    },
  };
}

function fetchedBytes({ requests }: FileServer): number {
  return requests.reduce((sum, { begin, end }) => sum + end! - begin!, 0);
}

const aRange = fc.constantFrom(0, 2).chain((file) =>
  fc.tuple(fc.nat(FILES[file]!.length - 1), fc.integer({ min: 1, max: 4000 })).map(
    ([begin, length]): FileRange => ({
      file,
      begin,
      end: Math.min(FILES[file]!.length, begin + length),
    }),
  )
);

Deno.test("BlockStore gives the right bytes, whatever was scheduled and in whatever order it is read", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(aRange, { maxLength: 12 }),
      fc.array(aRange, { minLength: 1, maxLength: 12 }),
      fc.boolean(),
      async (scheduled, reads, keeps) => {
        await using place = await bench();
        if (keeps) place.store.keep();
        place.store.schedule(scheduled, false);
        // Several threads read at a time.
        await Promise.all([...reads, ...scheduled].map(async ({ file, begin, end }) => {
          assert.deepEqual(await place.read(file, begin, end), FILES[file]!.slice(begin, end));
        }));
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("BlockStore fetches every byte once if all is scheduled and read once", async () => {
  await using place = await bench();
  const ranges = [0, 2].map((file) => ({ file, begin: 0, end: FILES[file]!.length }));
  place.store.schedule(ranges, false);
  for (const { file, end } of ranges) {
    for (let at = 0; at < end; at += 700) {
      const to = Math.min(end, at + 700);
      assert.deepEqual(await place.read(file, at, to), FILES[file]!.slice(at, to));
    }
  }
  assert.equal(fetchedBytes(place.server), FILES[0]!.length + FILES[2]!.length);
});

Deno.test("BlockStore fetches no further ahead than its window", async () => {
  await using place = await bench();
  place.store.schedule([{ file: 0, begin: 0, end: FILES[0]!.length }], false);
  await place.read(0, 0, 10);
  while (fetchedBytes(place.server) < 6000) await new Promise((done) => setTimeout(done, 10));
  await new Promise((done) => setTimeout(done, 50));
  assert.equal(fetchedBytes(place.server), 6000);
});

Deno.test("BlockStore lets go of what an earlier run did not read", async () => {
  await using place = await bench();
  const range = { file: 0, begin: 0, end: FILES[0]!.length };
  for (let run = 0; run < 5; run++) {
    place.store.schedule([range], false);
    await place.read(0, 0, 1500);
  }
  place.store.schedule([range], false);
  assert.deepEqual(await place.read(0, 0, range.end), FILES[0]!.slice(0, range.end));
});

Deno.test("BlockStore keeps what is read again in a file that no one sees", async () => {
  await using place = await bench();
  place.store.keep();
  const range = { file: 0, begin: 0, end: FILES[0]!.length };
  for (let run = 0; run < 3; run++) {
    place.store.schedule([range], false);
    assert.deepEqual(await place.read(0, 0, range.end), FILES[0]!);
  }
  assert.equal(fetchedBytes(place.server), FILES[0]!.length);
  assert.deepEqual(readdirSync(place.folder), []);
});

Deno.test("BlockStore reads a file that comes in one piece, in any order, and fetches it once", async () => {
  await using place = await bench(() => ({ whole: true }), false);
  place.store.schedule([{ file: 0, begin: 0, end: 5000 }], false);
  await Promise.all([[20_000, 25_300], [0, 999], [999, 3001]].map(async ([begin, end]) => {
    assert.deepEqual(await place.read(0, begin!, end!), FILES[0]!.slice(begin, end));
  }));
  assert.equal(place.server.requests.length, 1);
  assert.deepEqual(readdirSync(place.folder), []);
});

Deno.test("BlockStore begins a file that comes in one piece again if it was cut, and skips what it has", async () => {
  await using place = await bench(({ number }) => number === 0 ? { cutAfter: 9000 } : null, false);
  assert.deepEqual(await place.read(0, 0, 25_300), FILES[0]!);
  assert.equal(place.server.requests.length, 2);
});

Deno.test("BlockStore notifies every reader of a file in one piece that it does not come", async () => {
  await using place = await bench(({ number }) => number === 0 ? { status: 403 } : null, false);
  for (const begin of [0, 20_000]) await assert.rejects(place.read(0, begin, begin + 10), /403/);
});

Deno.test("BlockStore notifies every reader that the server fails", async () => {
  await using place = await bench(({ begin }) => begin! >= 3000 ? { status: 403 } : null);
  place.store.schedule([{ file: 0, begin: 0, end: FILES[0]!.length }], false);
  assert.deepEqual(await place.read(0, 0, 3000), FILES[0]!.slice(0, 3000));
  for (const begin of [3000, 3500, 20_000]) {
    await assert.rejects(place.read(0, begin, begin + 10), /403/);
  }
});

Deno.test("BlockStore refuses to read beyond the end of a file", async () => {
  await using place = await bench();
  await assert.rejects(place.read(2, 9_990, 10_000), /the file ends at byte 9999/);
});

Deno.test("BlockStore holds small ranges for good, near ones by one request", async () => {
  await using place = await bench();
  const ranges = [0, 5000, 20_000].map((begin) => ({ file: 0, begin, end: begin + 60 }));
  await place.store.hold(ranges);
  assert.equal(place.server.requests.length, 1);
  for (const { begin, end } of ranges) {
    assert.deepEqual(await place.read(0, begin, end), FILES[0]!.slice(begin, end));
  }
  assert.equal(place.server.requests.length, 1);
});
