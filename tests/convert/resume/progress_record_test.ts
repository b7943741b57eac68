import type { Note } from "../../../src/run/note.ts";
import assert from "node:assert/strict";
import fc from "fast-check";
import type { WrittenBytes } from "../../../src/safetensors/written_bytes.ts";
import { SLOT_LENGTH } from "../../../src/run/layer_statistics.ts";
import type { Fingerprint } from "../../../src/convert/resume/fingerprint.ts";
import {
  decodeJournal,
  encodeFingerprint,
  encodeFinished,
} from "../../../src/convert/resume/progress_record.ts";

const FINGERPRINT: Fingerprint = {
  program: "p",
  device: "d",
  inputs: [{ place: "x", bytes: 1, version: "2" }],
  work: "w",
  options: { a: "1" },
};

const slot = fc.array(fc.double(), { minLength: SLOT_LENGTH, maxLength: SLOT_LENGTH });

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const bytes: fc.Arbitrary<WrittenBytes[]> = fc.array(
  fc.record({
    address: fc.maxSafeNat(),
    byteLength: fc.maxSafeNat(),
    strideBytes: fc.maxSafeNat(),
    count: u32,
    crc32: u32,
  }, { noNullPrototype: true }),
  { maxLength: 3 },
);

Deno.test("decodeJournal() returns all that was taken down, to the bit", () => {
  const chunks = fc.uniqueArray(fc.record({ chunk: fc.nat(1e6), slot, bytes }), {
    selector: ({ chunk }) => chunk,
    maxLength: 8,
  });
  const lossRatio = fc.oneof(fc.double(), fc.constant(-0), fc.constant(Infinity));
  fc.assert(fc.property(fc.array(chunks, { maxLength: 3 }), lossRatio, (saves, ratio) => {
    const note: Note = { kind: "learned", report: { lossRatio: ratio } as never };
    const payloads = [encodeFingerprint(FINGERPRINT)];
    const expected = new Map<number, number[]>();
    const written = new Map<number, WrittenBytes[]>();
    for (const save of saves) {
      payloads.push(...encodeFinished({
        chunks: save.map(({ chunk }) => chunk),
        slots: Float64Array.from(save.flatMap(({ slot }) => slot)),
        notes: new Map([[3, note]]),
        written: new Map(save.map(({ chunk, bytes }) => [chunk, bytes])),
      }));
      for (const { chunk, slot, bytes } of save) {
        expected.set(chunk, slot);
        written.set(chunk, bytes);
      }
    }
    const { fingerprint, finished } = decodeJournal(payloads)!;
    assert.deepEqual(fingerprint, FINGERPRINT);
    assert.deepEqual(finished.chunks, [...expected.keys()]);
    assert.deepEqual([...finished.slots], [...expected.values()].flat());
    assert.deepEqual(finished.written, written);
    if (saves.length > 0) assert.deepEqual(finished.notes, new Map([[3, note]]));
  }));
});

Deno.test("decodeJournal() takes no journal of another form", () => {
  assert.equal(decodeJournal([]), null);
  assert.equal(decodeJournal([Uint8Array.of(9, 9)]), null);
  const other = new TextEncoder().encode(`\u0001${JSON.stringify({ format: 99 })}`);
  assert.equal(decodeJournal([other]), null);
});
