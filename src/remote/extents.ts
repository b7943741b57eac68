/**
 * Small parts of files, read out of turn: headers of layers, scales. Some for good, the others while there
 * is room.
 */

import type { FileRange } from "./channel.ts";

/** Minimum that is fetched, beyond the request: what is read next often lies behind. */
const READ_AHEAD_BYTES = 128 << 10;

/** Room for what is not held for good. */
const CACHE_BYTES = 8 << 20;

/** Ranges with gaps up to this are fetched by one request. */
const GAP_BYTES = 64 << 10;

interface Extent extends FileRange {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Returns bytes `begin` to `end` of a file. */
export type FetchExtent = (
  file: number,
  begin: number,
  end: number,
) => Promise<Uint8Array<ArrayBuffer>>;

/** Parts of files. */
export class Extents {
  readonly #fetch: FetchExtent;
  readonly #held: Extent[] = [];
  /** Oldest first. */
  #cached: Extent[] = [];

  constructor(fetch: FetchExtent) {
    this.#fetch = fetch;
  }

  /** Fetches ranges, `atOnce` at a time, and holds them for good. */
  async hold(ranges: readonly FileRange[], atOnce: number): Promise<void> {
    const merged = mergeNear(ranges, GAP_BYTES);
    let next = 0;
    const work = async () => {
      while (next < merged.length) {
        const range = merged[next++]!;
        const bytes = await this.#fetch(range.file, range.begin, range.end);
        this.#held.push({ ...range, bytes });
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, merged.length) }, work));
  }

  /** Fills `view` and returns true, or returns false if the bytes are not here. */
  read(file: number, view: Uint8Array, positionBytes: number): boolean {
    const covers = (extent: Extent) =>
      extent.file === file && extent.begin <= positionBytes &&
      extent.end >= positionBytes + view.length;
    const found = this.#cached.findLast(covers) ?? this.#held.find(covers);
    if (found === undefined) return false;
    const at = positionBytes - found.begin;
    view.set(found.bytes.subarray(at, at + view.length));
    return true;
  }

  /** Fills `view` from the server, and keeps what came with it while there is room. */
  async fetch(
    file: number,
    view: Uint8Array,
    positionBytes: number,
    fileBytes: number,
  ): Promise<void> {
    const wanted = Math.max(view.length, READ_AHEAD_BYTES);
    const end = Math.min(fileBytes, positionBytes + wanted);
    const bytes = await this.#fetch(file, positionBytes, end);
    view.set(bytes.subarray(0, view.length));
    this.#cached.push({ file, begin: positionBytes, end, bytes });
    let total = this.#cached.reduce((sum, extent) => sum + extent.bytes.length, 0);
    while (total > CACHE_BYTES) total -= this.#cached.shift()!.bytes.length;
  }
}

/** Returns ranges in order, those joined that touch, overlap or are at most `gapBytes` apart. */
function mergeNear(ranges: readonly FileRange[], gapBytes: number): FileRange[] {
  const sorted = [...ranges].sort((a, b) => a.file - b.file || a.begin - b.begin);
  const merged: FileRange[] = [];
  for (const range of sorted) {
    const last = merged.at(-1);
    if (last === undefined || last.file !== range.file || range.begin > last.end + gapBytes) {
      merged.push(range);
    } else merged[merged.length - 1] = { ...last, end: Math.max(last.end, range.end) };
  }
  return merged;
}
