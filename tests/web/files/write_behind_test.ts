import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { MOST_WRITES, WRITE_BLOCK_BYTES, WriteBehind } from "../../../web/files/write_behind.ts";
import { synthetic } from "./synthetic.ts";

const MB = 1 << 20;

/** Writes pieces in the order given; returns the file that came of it, and the sizes of the writes. */
async function written(
  size: number,
  pieces: readonly (readonly [position: number, length: number])[],
): Promise<{ file: Uint8Array; expected: Uint8Array; sizes: number[] }> {
  const file = new Uint8Array(size), expected = new Uint8Array(size), sizes: number[] = [];
  const behind = new WriteBehind((data, position) => {
    file.set(data, position);
    sizes.push(data.length);
    return Promise.resolve();
  });
  for (const [i, [position, length]] of pieces.entries()) {
    const view = synthetic(length, i);
    expected.set(view, position);
    await behind.write(view, position);
    view.fill(0); // what it took is a copy
  }
  await behind.flush();
  return { file, expected, sizes };
}

Deno.test("WriteBehind writes what it was given, whatever the order and the size", async () => {
  const pieces: [number, number][] = [];
  for (let i = 0; i < 40; i++) pieces.push([((i * 17) % 40) * 700_001, 700_001]);
  pieces.push([3, 10], [1_000_000, 9 * MB], [0, 1]);
  const { file, expected } = await written(40 * 700_001, pieces);
  assert.ok(Buffer.from(file.buffer).equals(expected));
});

Deno.test("WriteBehind makes few large writes of small ones that follow one another", async () => {
  const pieces = Array.from({ length: 1024 }, (_, i): [number, number] => [i * 65_536, 65_536]);
  const { file, expected, sizes } = await written(64 * MB, pieces);
  assert.ok(Buffer.from(file.buffer).equals(expected));
  assert.deepEqual(sizes, Array(4).fill(WRITE_BLOCK_BYTES));
});

Deno.test("WriteBehind leaves a block as it is until it is written, then fills its memory again", async () => {
  const begun: { data: Uint8Array; done: () => void }[] = [];
  const behind = new WriteBehind((data) =>
    new Promise((resolve) => begun.push({ data, done: () => resolve() }))
  );
  const memories = new Set<ArrayBufferLike>();
  for (let i = 0; i < 5; i++) {
    const next = behind.write(new Uint8Array(WRITE_BLOCK_BYTES).fill(i), i * WRITE_BLOCK_BYTES);
    if (i >= MOST_WRITES) {
      const { data, done } = begun[i - MOST_WRITES]!;
      assert.ok(data.every((byte) => byte === i - MOST_WRITES));
      done();
    }
    await next;
    memories.add(begun[i]!.data.buffer);
  }
  assert.equal(memories.size, MOST_WRITES + 1);
  for (const { done } of begun) done();
  await behind.flush();
});

Deno.test("WriteBehind writes no byte that it was not given", async () => {
  const { file, expected, sizes } = await written(8 * MB, [[5, 10], [6 * MB, 20]]);
  assert.ok(Buffer.from(file.buffer).equals(expected));
  assert.deepEqual(sizes, [10, 20]);
});

Deno.test("WriteBehind fills blocks while some are written, and reports a write that fails", async () => {
  const begun: ((error: Error | null) => void)[] = [];
  const behind = new WriteBehind((_data, _position) =>
    new Promise((resolve, reject) =>
      begun.push((error) => error === null ? resolve() : reject(error))
    )
  );
  const block = synthetic(WRITE_BLOCK_BYTES, 1);
  for (let i = 0; i < MOST_WRITES; i++) await behind.write(block, i * block.length);
  assert.equal(begun.length, MOST_WRITES);
  let isTaken = false;
  const next = behind.write(block, MOST_WRITES * block.length).then(() => isTaken = true);
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 0));
  assert.ok(!isTaken, "no more are written at a time");
  begun[0]!(null);
  await next;
  begun[1]!(new Error("no room"));
  await assert.rejects(behind.write(block, (MOST_WRITES + 1) * block.length), /no room/);
  for (const settle of begun.slice(2)) settle(null);
  await behind.flush();
});
