import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InterruptedError } from "../../src/core/errors.ts";
import { crc32 } from "../../src/safetensors/crc32.ts";
import { BLOCK_BYTES, checksumsOf, RangeCopier } from "../../src/safetensors/part_files.ts";
import { temporaryFolder } from "../support/model_files.ts";

const LENGTH = 2 * BLOCK_BYTES + 77, OFFSET = 13;

function writeSource(folder: string): { source: string; target: string; bytes: Uint8Array } {
  const source = join(folder, "source"), target = join(folder, "target");
  const bytes = new Uint8Array(OFFSET + LENGTH + 5);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 2654435761) >>> 24;
  writeFileSync(source, bytes);
  writeFileSync(target, "");
  return { source, target, bytes };
}

Deno.test("checksumsOf() gives one CRC-32 per block, and that of nothing beyond the end", async () => {
  using folder = temporaryFolder();
  const { source, bytes } = writeSource(folder.path);
  const [sums, empty, beyond] = await checksumsOf(source, [
    { offsetBytes: OFFSET, byteLength: LENGTH },
    { offsetBytes: OFFSET, byteLength: 0 },
    { offsetBytes: bytes.length - 4, byteLength: 8 },
  ]);
  const want = [0, 1, 2].map((block) => {
    const from = OFFSET + block * BLOCK_BYTES;
    return crc32(bytes.slice(from, Math.min(from + BLOCK_BYTES, OFFSET + LENGTH)));
  });
  assert.deepEqual(sums, want);
  assert.deepEqual(empty, []);
  assert.deepEqual(beyond, [crc32(bytes.slice(-4))]);
});

Deno.test("RangeCopier copies a range of several blocks, and finds the block with a flipped bit", async () => {
  using folder = temporaryFolder();
  const { source, target, bytes } = writeSource(folder.path);
  const [sums] = await checksumsOf(source, [{ offsetBytes: OFFSET, byteLength: LENGTH }]);
  const range = { offsetBytes: OFFSET, byteLength: LENGTH, crc32: sums! };
  const copy = async (signal?: AbortSignal) => {
    await using copier = new RangeCopier();
    return await copier.copy(source, range, { target, position: 3, signal });
  };
  assert.equal(await copy(), null);
  const copied = readFileSync(target);
  assert.ok(copied.subarray(3).equals(bytes.subarray(OFFSET, OFFSET + LENGTH)));
  for (const block of [0, 1, 2]) {
    const damaged = bytes.slice(), from = OFFSET + block * BLOCK_BYTES;
    damaged[from + 70]! ^= 1;
    writeFileSync(source, damaged);
    assert.equal(await copy(), from);
  }
  writeFileSync(source, bytes.subarray(0, OFFSET + BLOCK_BYTES + 1));
  assert.equal(await copy(), OFFSET + BLOCK_BYTES);
  writeFileSync(source, bytes);
  await assert.rejects(copy(AbortSignal.abort()), InterruptedError);
});
