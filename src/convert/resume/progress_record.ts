/** Finished work as records of a journal: a fingerprint first, then chunks and notes. */

import type { FinishedWork } from "../../run/workers/checkpoints.ts";
import { SLOT_LENGTH } from "../../run/layer_statistics.ts";
import type { Note } from "../../run/note.ts";
import type { WrittenBytes } from "../../safetensors/written_bytes.ts";
import type { Fingerprint } from "./fingerprint.ts";

/** Changes with the form of what follows. */
const FORMAT = 4;

/** First byte of a payload. */
const KIND = Object.freeze({ fingerprint: 1, chunks: 2, notes: 3 });

/** Number, how many entries of what was written follow, error sums. */
const CHUNK_BYTES = 4 + 4 + 8 * SLOT_LENGTH;

/** Address, length and stride as f64; count and checksum as u32. */
const WRITTEN_BYTES = 3 * 8 + 2 * 4;

/** Returns the payload of a journal's first record. */
export function encodeFingerprint(fingerprint: Fingerprint): Uint8Array {
  return jsonPayload(KIND.fingerprint, { format: FORMAT, ...fingerprint });
}

/** Returns the payloads that record `work`: notes come first, so that no finished chunk lacks its own. */
export function encodeFinished({ chunks, slots, notes, written }: FinishedWork): Uint8Array[] {
  const entries = chunks.reduce((sum, chunk) => sum + (written.get(chunk)?.length ?? 0), 0);
  const payload = new Uint8Array(1 + chunks.length * CHUNK_BYTES + entries * WRITTEN_BYTES);
  const view = new DataView(payload.buffer);
  payload[0] = KIND.chunks;
  let at = 1;
  chunks.forEach((chunk, i) => {
    const own = written.get(chunk) ?? [];
    view.setUint32(at, chunk, true);
    view.setUint32(at + 4, own.length, true);
    for (let k = 0; k < SLOT_LENGTH; k++) {
      view.setFloat64(at + 8 + 8 * k, slots[i * SLOT_LENGTH + k]!, true);
    }
    at += CHUNK_BYTES;
    for (const { address, byteLength, strideBytes, count, crc32 } of own) {
      [address, byteLength, strideBytes].forEach((n, k) => view.setFloat64(at + 8 * k, n, true));
      view.setUint32(at + 24, count, true);
      view.setUint32(at + 28, crc32, true);
      at += WRITTEN_BYTES;
    }
  });
  return [...(notes.size > 0 ? [jsonPayload(KIND.notes, [...notes])] : []), payload];
}

/** Returns what a journal says; null if it is none of this form. */
export function decodeJournal(
  payloads: readonly Uint8Array[],
): { fingerprint: Fingerprint; finished: FinishedWork } | null {
  const [first, ...rest] = payloads;
  if (first === undefined || first[0] !== KIND.fingerprint) return null;
  const { format, ...fingerprint } = jsonOf(first) as { format: number } & Fingerprint;
  if (format !== FORMAT) return null;
  const numbers = new Map<number, Float64Array>();
  const notes = new Map<number, Note>();
  const written = new Map<number, readonly WrittenBytes[]>();
  for (const payload of rest) {
    if (payload[0] === KIND.notes) {
      for (const [task, note] of jsonOf(payload) as [number, Note][]) notes.set(task, note);
    } else if (payload[0] === KIND.chunks) readChunks(payload, numbers, written);
  }
  const slots = new Float64Array(numbers.size * SLOT_LENGTH);
  [...numbers.values()].forEach((slot, i) => slots.set(slot, i * SLOT_LENGTH));
  return { fingerprint, finished: { chunks: [...numbers.keys()], slots, notes, written } };
}

/** A later entry of a chunk stands for all of it. */
function readChunks(
  payload: Uint8Array,
  numbers: Map<number, Float64Array>,
  written: Map<number, readonly WrittenBytes[]>,
): void {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const f64 = (at: number) => view.getFloat64(at, true);
  for (let at = 1; at + CHUNK_BYTES <= payload.length;) {
    const chunk = view.getUint32(at, true), entries = view.getUint32(at + 4, true);
    const first = at + 8;
    numbers.set(chunk, Float64Array.from({ length: SLOT_LENGTH }, (_, k) => f64(first + 8 * k)));
    at += CHUNK_BYTES;
    const end = at + entries * WRITTEN_BYTES;
    const own: WrittenBytes[] = [];
    for (; at < end; at += WRITTEN_BYTES) {
      own.push({
        address: f64(at),
        byteLength: f64(at + 8),
        strideBytes: f64(at + 16),
        count: view.getUint32(at + 24, true),
        crc32: view.getUint32(at + 28, true),
      });
    }
    written.set(chunk, own);
  }
}

function jsonPayload(kind: number, value: unknown): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(value, spellNumber));
  const payload = new Uint8Array(1 + json.length);
  payload[0] = kind;
  payload.set(json, 1);
  return payload;
}

function jsonOf(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(payload.subarray(1)), readNumber);
}

/** Before numbers that JSON has none for. */
const NUMBER_MARK = "\0";

function spellNumber(_key: string, value: unknown): unknown {
  const isPlain = typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0));
  return isPlain ? value : `${NUMBER_MARK}${Object.is(value, -0) ? "-0" : value}`;
}

function readNumber(_key: string, value: unknown): unknown {
  const isNumber = typeof value === "string" && value.startsWith(NUMBER_MARK);
  return isNumber ? Number(value.slice(NUMBER_MARK.length)) : value;
}
