/** Values of some rows that went to a GPU, decoded again, and which rows those are: for checks of what it rounded. */

import type { Kernels } from "../../backend/backend.ts";
import { DTYPE_BITS, type FloatDType } from "../../core/dtype.ts";
import type { LinalgKernels } from "../../linalg/linalg_kernels.ts";
import { addShortRows } from "../chunks/merge_rect.ts";
import type { AddedRows, ShortRows } from "../gpu_requests.ts";
import type { Scratch } from "../scratch.ts";
import { type CheckKernels, randomOf, spread } from "./gpu_check.ts";

/** Of so many bands one is checked, in every chunk at least one. */
const BANDS_PER_CHECK = 256;

/** Bands that are checked of the first chunk of a kind. */
const FIRST_BANDS = 32;

/** What went up. */
export interface StoredRows {
  /** Says which ones these are. */
  readonly name: string;
  readonly raw: Uint8Array;
  readonly dtype: FloatDType;
  /** Added to the values before they are rounded. */
  readonly changes: readonly AddedRows[];
  /** Whether the chunk is the first of its kind. */
  readonly isFirst: boolean;
}

/** The bands that are checked: some of all, and one of those that each pair changes, be they ever so few. */
export function bandsOf(
  { name, isFirst, changes }: StoredRows,
  { rows, groupRows }: { readonly rows: number; readonly groupRows: number },
): Iterable<number> {
  const bands = rows / groupRows, random = randomOf(name);
  const wanted = Math.max(isFirst ? FIRST_BANDS : 1, Math.ceil(bands / BANDS_PER_CHECK));
  const found = new Set(spread(bands, wanted, random));
  for (const change of changes) {
    const row = change.firstRow + random() % Math.max(1, rowsOf(change));
    if (row < rows) found.add(Math.floor(row / groupRows));
  }
  return found;
}

/**
 * Decodes rows from `row` on, in memory of `kernels` that has room for `more` bytes besides. Null: values are NaN or
 * infinite; the one who asked reports them.
 */
export function rowsAgain(
  cpu: CheckKernels,
  stored: StoredRows,
  { row, rows, cols }: { readonly row: number; readonly rows: number; readonly cols: number },
  more: number,
): { readonly kernels: Kernels; readonly memory: Scratch; readonly x: Float32Array } | null {
  const count = rows * cols, bytes = count * DTYPE_BITS[stored.dtype] / 8;
  const changes = stored.changes.flatMap((change) => changeWithin(change, row, rows) ?? []);
  const memory = cpu.memory(
    4 * count + bytes + more + 4096 +
      changes.reduce((sum, change) => sum + changeBytes(change, cols), 0),
  );
  const { kernels } = cpu; // of the memory just taken
  const raw = memory.u8(bytes), x = memory.f32(count), first = row * cols * bytes / count;
  raw.set(stored.raw.subarray(first, first + bytes));
  kernels.decode(x, raw, stored.dtype);
  for (const change of changes) {
    const own = x.subarray(change.firstRow * cols, (change.firstRow + rowsOf(change)) * cols);
    addAgain(cpu.linalg, memory, own, change, cols);
  }
  return kernels.countNonFinite(x).count > 0 ? null : { kernels, memory, x };
}

/** Copies an array to where kernels reach it. */
export function copied<T extends Int8Array | Uint8Array | Int32Array | Float32Array>(
  into: T,
  from: T,
): T {
  into.set(from);
  return into;
}

function rowsOf(change: AddedRows): number {
  return "a" in change ? change.b.length / change.rank : change.rows;
}

/** The part of a change that concerns `count` rows from `row` on, its first row counted from there; null: none. */
function changeWithin(change: AddedRows, row: number, count: number): AddedRows | null {
  const start = Math.max(row, change.firstRow), skipped = start - change.firstRow;
  const rows = Math.min(row + count, change.firstRow + rowsOf(change)) - start;
  if (!(rows > 0)) return null;
  const firstRow = start - row;
  if ("a" in change) {
    const { rank, a, b } = change;
    return { firstRow, rank, a, b: b.subarray(skipped * rank, (skipped + rows) * rank) };
  }
  return { ...change, firstRow, rows, left: linesOf(change, skipped, rows) };
}

/** Some rows of the strips of four that a change has, in strips of four, the last filled with zeros. */
function linesOf({ left, terms }: ShortRows, first: number, rows: number): ShortRows["left"] {
  const pairs = Math.ceil(terms / 2), padded = 4 * Math.ceil(rows / 4);
  const own = { pairs: new Int32Array(padded * pairs), scales: new Float32Array(padded) };
  const place = (row: number, p: number) => (row - row % 4) * pairs + 4 * p + row % 4;
  for (let r = 0; r < rows; r++) {
    own.scales[r] = left.scales[first + r]!;
    for (let p = 0; p < pairs; p++) own.pairs[place(r, p)] = left.pairs[place(first + r, p)]!;
  }
  return own;
}

/** Bytes that {@link addAgain} takes. */
function changeBytes(change: AddedRows, cols: number): number {
  if ("a" in change) return 4 * (change.a.length + change.b.length) + 256;
  const { left, right } = change;
  const numbers = left.pairs.length + left.scales.length + right.pairs.length + right.scales.length;
  return 4 * (numbers + 4 * cols) + 512;
}

/** Adds a change to its rows once more. */
function addAgain(
  linalg: LinalgKernels,
  memory: Scratch,
  x: Float32Array,
  change: AddedRows,
  cols: number,
): void {
  if ("a" in change) {
    const { rank } = change, rows = rowsOf(change);
    const b = copied(memory.f32(change.b.length), change.b);
    const a = copied(memory.f32(change.a.length), change.a);
    return linalg.addLowRank(x, b, a, { rows, cols, rank });
  }
  const local = ({ pairs, scales }: ShortRows["left"]) => ({
    pairs: copied(memory.i32(pairs.length), pairs),
    scales: copied(memory.f32(scales.length), scales),
  });
  const own = { ...change, left: local(change.left), right: local(change.right) };
  addShortRows(linalg, x, memory.f32(4 * cols), [own]);
}
