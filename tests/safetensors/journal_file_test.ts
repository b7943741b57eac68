import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import {
  decodeRecords,
  encodeRecord,
  JournalFile,
  readJournal,
  removeJournal,
} from "../../src/safetensors/journal_file.ts";
import { TempFolder } from "../support/header_fixtures.ts";

const payloads = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 });

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("decodeRecords() returns the whole records of a journal that was cut anywhere", () => {
  fc.assert(fc.property(payloads, fc.nat(300), (all, cut) => {
    const records = all.map(encodeRecord);
    const bytes = joined(records).subarray(0, cut);
    const found = decodeRecords(bytes);
    let count = 0, end = 0;
    for (const record of records) {
      if (end + record.length > bytes.length) break;
      end += record.length;
      count++;
    }
    assert.deepEqual(found, { payloads: all.slice(0, count), endBytes: end });
  }));
});

Deno.test("decodeRecords() stops before a record in which any bit differs", () => {
  const records = [[1, 2, 3], [4], [5, 6]].map((bytes) => encodeRecord(Uint8Array.from(bytes)));
  const bytes = joined(records);
  const second = { begin: records[0]!.length, end: records[0]!.length + records[1]!.length };
  for (let at = second.begin; at < second.end; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const damaged = bytes.slice();
      damaged[at]! ^= 1 << bit;
      assert.equal(decodeRecords(damaged).endBytes, second.begin, `byte ${at}, bit ${bit}`);
    }
  }
});

Deno.test("JournalFile continues behind the last whole record", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "j");
  assert.equal(readJournal(path), null);
  const journal = JournalFile.create(path);
  await journal.append([Uint8Array.of(1), Uint8Array.of(2, 2)]);
  await journal.append([Uint8Array.of(3)]);
  journal.close();
  writeFileSync(path, readFileSync(path).subarray(0, -1));
  const found = readJournal(path)!;
  assert.deepEqual(found.payloads, [Uint8Array.of(1), Uint8Array.of(2, 2)]);
  const again = JournalFile.goOn(path, found.endBytes);
  await again.append([Uint8Array.of(4)]);
  again.close();
  assert.deepEqual(readJournal(path)!.payloads, [
    Uint8Array.of(1),
    Uint8Array.of(2, 2),
    Uint8Array.of(4),
  ]);
  removeJournal(path);
  assert.equal(readJournal(path), null);
});
