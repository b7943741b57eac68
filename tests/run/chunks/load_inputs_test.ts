import assert from "node:assert/strict";
import { withOwnMemory } from "../../../src/library/own_memory.ts";
import type { LayerInputs } from "../../../src/calibration/layer_inputs.ts";
import { matrix } from "../../../src/linalg/matrix.ts";
import { loadInputRow, loadInputRows } from "../../../src/run/chunks/load_inputs.ts";
import { loadInputs } from "../../../src/run/chunks/measure_chunk.ts";
import { readScales } from "../../../src/run/chunks/load_rect.ts";

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

/** What `loadInputs` gives of 100 rows of 3 columns, and how often it reads. */
function loaded(
  count: number,
  first: number,
  inputs: Pick<LayerInputs, "firstRow" | "rowStep">,
  changed: Record<number, number> = {},
) {
  const all = Float32Array.from({ length: 300 }, (_, i) => changed[i] ?? i % 128);
  const bytes = file(all);
  let reads = 0;
  const rows = withOwnMemory(1 << 16, ({ kernels, memory }) => {
    const read = (_: number, view: Uint8Array, at: number) => {
      reads++;
      view.set(bytes.subarray(at, at + view.length));
    };
    const out = memory.f32(count * 3);
    const data = { kind: "file", file: 0, dtype: "BF16", offsetBytes: 6, path: "f" } as const;
    const given = { ...inputs, data, statistic: "activations", rows: 99, cols: 3 } as const;
    loadInputs({ kernels, scratch: memory, read }, given, out, first);
    return [...out];
  });
  return { rows, reads };
}

Deno.test("loadInputs() reads neighbouring rows many at a time, others one by one", () => {
  const values = (row: number) => [3 * row, 3 * row + 1, 3 * row + 2];
  const near = loaded(20, 3, { firstRow: 5, rowStep: 1 });
  assert.deepEqual(near.rows, Array.from({ length: 20 }, (_, i) => values(8 + i)).flat());
  assert.equal(near.reads, 1);
  const far = loaded(3, 2, { firstRow: 5, rowStep: 4 });
  assert.deepEqual(far.rows, [13, 17, 21].flatMap(values));
});

Deno.test("loadInputs() names the first value that is no number by its row in the data", () => {
  const changed = { [3 * 17 + 2]: Infinity, [3 * 30]: NaN };
  for (const rowStep of [1, 4]) {
    const message = /activations\[17, 2\] is Infinity, needs a finite number/;
    assert.throws(() => loaded(10, 1, { firstRow: 13, rowStep }, changed), message);
  }
});

Deno.test("readScales() gives every row its own, in one read, also from within a group", () => {
  const scales = Float32Array.from({ length: 12 }, (_, i) => i / 8);
  for (const groupRows of [1, 2, 3]) {
    let reads = 0;
    const got = withOwnMemory(1 << 16, ({ kernels, memory }) => {
      const read = (_: number, view: Uint8Array, at: number) => {
        reads++;
        view.set(new Uint8Array(scales.buffer).subarray(at - 40, at - 40 + view.length));
      };
      const place = { file: 0, offsetBytes: 40, dtype: "F32", groupRows, groupCols: 5 } as const;
      const rect = { row: 2, col: 0, rows: 3, cols: 10 };
      return [
        ...readScales({ kernels, scratch: memory, read }, { scale: place, cols: 10 }, rect),
      ];
    });
    const of = (row: number) => [0, 1].map((g) => scales[2 * Math.floor(row / groupRows) + g]!);
    assert.deepEqual(got, [2, 3, 4].flatMap(of));
    assert.equal(reads, 1);
  }
});
