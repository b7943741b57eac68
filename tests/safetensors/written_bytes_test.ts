import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { WriteRecord, WrittenChecker } from "../../src/safetensors/written_bytes.ts";
import { TempFolder } from "../support/header_fixtures.ts";

/** Writes that lie in one file of `SIZE` bytes, without overlaps, in any order. */
const SIZE = 64;
const writes = fc.array(
  fc.record({ at: fc.nat(SIZE - 1), length: fc.integer({ min: 0, max: 9 }) }),
);

Deno.test("WrittenChecker.holds() is true of what was written, and false once any of it changes", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out");
  await fc.assert(
    fc.asyncProperty(
      writes,
      fc.uint8Array({ minLength: SIZE, maxLength: SIZE }),
      async (all, file) => {
        const record = new WriteRecord();
        const isWritten = new Array<boolean>(SIZE).fill(false);
        for (const { at, length } of all) {
          const end = Math.min(SIZE, at + length);
          if (isWritten.slice(at, end).includes(true)) continue;
          isWritten.fill(true, at, end);
          record.add(file.subarray(at, end), 100 + at);
        }
        const written = record.take();
        assert.deepEqual(record.take(), []);
        const holds = async () => {
          writeFileSync(path, file);
          await using checker = new WrittenChecker([{
            output: path,
            path,
            startBytes: 100,
            totalBytes: SIZE,
          }]);
          const each = [];
          for (const bytes of written) each.push(await checker.holds(bytes));
          return each.every((one) => one);
        };
        assert(await holds());
        for (let at = 0; at < SIZE; at += 5) {
          file[at]! ^= 1 << (at % 8);
          assert.equal(await holds(), !isWritten[at]);
          file[at]! ^= 1 << (at % 8);
        }
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("WriteRecord.take() has one entry for the rows of a matrix, and one for pieces in a row", () => {
  const record = new WriteRecord();
  for (let row = 0; row < 1000; row++) record.add(Uint8Array.of(row, 1, 2), 50 + 10 * row);
  const [rows, ...others] = record.take();
  assert.deepEqual(others, []);
  const { crc32: _sum, ...place } = rows!;
  assert.deepEqual(place, { address: 50, byteLength: 3, strideBytes: 10, count: 1000 });
  for (let at = 0; at < 1000; at += 10) record.add(new Uint8Array(10), at);
  assert.deepEqual(record.take().map(({ byteLength, count }) => [byteLength, count]), [[1000, 1]]);
});

Deno.test("WrittenChecker.holds() reads pieces that are longer than its buffer, and finds a file that ends early", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "out");
  const bytes = Uint8Array.from({ length: 9 << 20 }, (_, i) => i * 31 >> 3);
  const record = new WriteRecord();
  record.add(bytes, 0);
  const [written] = record.take();
  for (const [length, expected] of [[bytes.length, true], [bytes.length - 1, false]] as const) {
    writeFileSync(path, bytes.subarray(0, length));
    await using checker = new WrittenChecker([{
      output: path,
      path,
      startBytes: 0,
      totalBytes: bytes.length,
    }]);
    assert.equal(await checker.holds(written!), expected);
  }
});
