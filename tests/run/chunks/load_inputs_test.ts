import assert from "node:assert/strict";
import { withOwnMemory } from "../../../src/library/own_memory.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { loadInputRow, loadInputRows } from "../../../src/run/chunks/load_inputs.ts";

const VALUES = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
const FACTORS = Float32Array.of(2, 0.5, 4);

function row(
  statistic: "activations" | "hessian",
  index: number,
  factors?: Float32Array,
): number[] {
  const out = new Float32Array(3);
  const data = {
    kind: "inline",
    values: VALUES,
    path: "data.json",
    ...(factors === undefined ? {} : { factors }),
  } as const;
  loadInputRow({} as never, { data, statistic }, index, out); // inline data is not read from a file
  return [...out];
}

Deno.test("loadInputRow() multiplies the channels of inputs by their factors", () => {
  assert.deepEqual(row("activations", 1), [4, 5, 6]);
  assert.deepEqual(row("activations", 1, FACTORS), [8, 2.5, 24]);
});

Deno.test("loadInputRow() multiplies second moments by the factors of both channels", () => {
  assert.deepEqual(row("hessian", 2, FACTORS), [7 * 2 * 4, 8 * 0.5 * 4, 9 * 4 * 4]);
});

/** BF16 of small whole numbers, at byte 6 of a file. */
function file(values: Float32Array): Uint8Array {
  const words = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
  return Uint8Array.of(9, 9, 9, 9, 9, 9, ...new Uint8Array(words.buffer));
}

Deno.test("loadInputRows() fills all rows from the first one on, of more than are read at a time", () => {
  const cols = 3, count = 100, first = 7;
  const all = Float32Array.from({ length: count * cols }, (_, i) => i % 128);
  const bytes = file(all);
  for (const rows of [1, 31, 32, 33, 65, count - first]) {
    withOwnMemory(1 << 16, ({ kernels, memory }) => {
      const read = (_: number, view: Uint8Array, at: number) =>
        view.set(bytes.subarray(at, at + view.length));
      const out = memory.f32(rows * cols);
      const data = { kind: "file", file: 0, dtype: "BF16", offsetBytes: 6, path: "f" } as const;
      const context = { kernels, scratch: memory, read };
      const factors = Float32Array.of(1, 2, 3);
      loadInputRows(context, { data: { ...data, factors } }, first, matrix(out, rows, cols));
      const wanted = all.subarray(first * cols, (first + rows) * cols);
      assert.deepEqual(
        [...out],
        [...wanted.map((value, i) => value * (1 + i % 3))],
        `${rows} rows`,
      );
    });
  }
});
