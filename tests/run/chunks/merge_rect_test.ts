import assert from "node:assert/strict";
import type { MatrixSource } from "../../../src/formats/matrix_source.ts";
import { type OwnMemory, withOwnMemory } from "../../../src/library/own_memory.ts";
import { soloContext } from "../../../src/linalg/context.ts";
import type { LoraDelta } from "../../../src/lora/lora_delta.ts";
import { addLoraDelta } from "../../../src/lora/merge.ts";
import type { ChunkContext } from "../../../src/run/chunks/chunk_context.ts";
import {
  changeOfRect,
  LocalPairs,
  mergeRect,
  withLocalPairs,
} from "../../../src/run/chunks/merge_rect.ts";

/** Deterministic numbers, some of them ten times as large as usual. */
function deviates(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
  return Float32Array.from({ length: count }, (_, i) => next() * (i % 97 === 5 ? 10 : 1));
}

/** A weight of `rows x cols` whose rows from `rowStart` on a pair changes. */
function sourceWith(
  { rank, rows, cols, rowStart = 0, rowCount = rows - rowStart, seed = 1 }: {
    rank: number;
    rows: number;
    cols: number;
    rowStart?: number;
    rowCount?: number;
    seed?: number;
  },
): MatrixSource & { deltas: readonly LoraDelta[] } {
  const delta: LoraDelta = {
    rowStart,
    rowCount,
    cols,
    scaling: 0.5,
    strength: 0.9,
    form: {
      kind: "lora",
      rank,
      a: deviates(rank * cols, seed),
      b: deviates(rowCount * rank, seed + 1),
    },
    magnitude: null,
  };
  return { rows, cols, deltas: [delta], mergesByIntegers: true } as unknown as MatrixSource & {
    deltas: LoraDelta[];
  };
}

function contextOf({ kernels, linalg, memory }: OwnMemory, localPairs?: LocalPairs): ChunkContext {
  const tools = { kernels, linalg: soloContext(linalg, memory), scratch: memory };
  return {
    ...tools,
    ...(localPairs === undefined ? {} : { localPairs }),
  } as unknown as ChunkContext;
}

/** Rows `row .. row + rows` of zeros after merging. */
function merged(own: OwnMemory, source: MatrixSource, row: number, rows: number): Float32Array {
  const { memory } = own, mark = memory.mark(), { cols } = source;
  const x = memory.f32(rows * cols).fill(0);
  mergeRect(contextOf(own), x, source, { row, col: 0, rows, cols });
  memory.release(mark);
  return x.slice();
}

/** The deviation from the exact change, relative to it: root mean squares. */
function deviation(got: Float32Array, { deltas }: MatrixSource, row: number): number {
  const exact = new Float32Array(got.length);
  for (const delta of deltas!) addLoraDelta(exact, delta, { rowStart: row });
  const energy = (x: Float32Array) => x.reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt(energy(got.map((value, i) => value - exact[i]!)) / energy(exact));
}

Deno.test("mergeRect() adds pairs to 2^-13 of the change, of any rank and to any rows", () => {
  withOwnMemory(1 << 22, (own) => {
    for (const rank of [1, 2, 16, 63, 64, 65, 200]) {
      const source = sourceWith({ rank, rows: 40, cols: 520, rowStart: 3, rowCount: 30 });
      for (const [row, rows] of [[0, 40], [4, 8], [5, 7], [32, 3], [30, 2]] as const) {
        const found = deviation(merged(own, source, row, rows), source, row);
        assert.ok(found < 2 ** -13, `rank ${rank}, ${rows} rows from ${row} on: ${found}`);
      }
    }
  });
});

Deno.test("mergeRect() adds pairs in f32 if no integers are allowed, or to columns that are no multiple of 8", () => {
  withOwnMemory(1 << 20, (own) => {
    const single = { ...sourceWith({ rank: 16, rows: 9, cols: 64 }), mergesByIntegers: false };
    for (const source of [single, sourceWith({ rank: 16, rows: 9, cols: 63 })]) {
      const found = deviation(merged(own, source, 0, 9), source, 0);
      assert.ok(found < 2 ** -19, `${source.cols} columns: ${found}`);
    }
  });
});

Deno.test("mergeRect() adds the same to a row whatever others it is merged with", () => {
  withOwnMemory(1 << 20, (own) => {
    const source = sourceWith({ rank: 70, rows: 13, cols: 24 });
    const whole = merged(own, source, 0, 13);
    for (const rows of [1, 2, 4, 5]) {
      for (let row = 0; row + rows <= 13; row += rows) {
        const part = merged(own, source, row, rows);
        assert.deepEqual(part, whole.subarray(row * 24, (row + rows) * 24), `${rows} from ${row}`);
      }
    }
  });
});

Deno.test("changeOfRect() gives what added to the stored values is what mergeRect() makes of them", () => {
  withOwnMemory(1 << 20, (own) => {
    for (const rank of [1, 16, 64]) {
      const source = sourceWith({ rank, rows: 12, cols: 40 }), stored = deviates(8 * 40, 9);
      const rect = { row: 4, col: 0, rows: 8, cols: 40 };
      const want = own.memory.f32(stored.length), got = own.memory.f32(stored.length).fill(7);
      want.set(stored);
      mergeRect(contextOf(own), want, source, rect);
      assert(changeOfRect(contextOf(own), got, source, rect));
      assert.deepEqual(got.map((change, i) => change + stored[i]!), want.slice(), `rank ${rank}`);
    }
  });
});

Deno.test("changeOfRect() leaves alone what is not one product in whole tiles", () => {
  withOwnMemory(1 << 20, (own) => {
    const usual = { rank: 16, rows: 12, cols: 40 }, source = sourceWith(usual);
    const rect = { row: 4, col: 0, rows: 8, cols: 40 };
    const [delta] = source.deltas;
    const odd = [
      ["two pairs", { ...source, deltas: [delta!, delta!] }, rect],
      ["no pair", { ...source, deltas: [] }, rect],
      [
        "another magnitude",
        { ...source, deltas: [{ ...delta!, magnitude: new Float32Array(12) }] },
        rect,
      ],
      ["two runs of ranks", sourceWith({ ...usual, rank: 65 }), rect],
      ["rows that are not changed", sourceWith({ ...usual, rowStart: 5 }), rect],
      ["no rows that are changed", sourceWith({ ...usual, rowStart: 2, rowCount: 2 }), rect],
      ["rows that fill no tile", source, { ...rect, rows: 7 }],
      ["f32", { ...source, mergesByIntegers: false }, rect],
    ] as const;
    for (const [what, of, where] of odd) {
      const x = own.memory.f32(where.rows * 40).fill(7);
      assert(!changeOfRect(contextOf(own), x, of as MatrixSource, where), what);
      assert(x.every((value) => value === 7), what);
    }
  });
});

Deno.test("mergeRect() leaves no finite number of a factor that is infinite", () => {
  withOwnMemory(1 << 20, (own) => {
    const source = sourceWith({ rank: 2, rows: 4, cols: 8 });
    const { form } = source.deltas[0]!;
    if (form.kind === "lora") form.b[0] = Infinity;
    assert.ok(merged(own, source, 0, 4).subarray(0, 8).every((value) => !Number.isFinite(value)));
  });
});

const SMALL = { rank: 2, rows: 4, cols: 8 };

/** Does chunks one after the other, as a worker does; returns what each adds by the pairs that it finds. */
function chunksOf(
  sources: readonly MatrixSource[],
  onStart: (pairs: LocalPairs, index: number) => void = () => {},
): Float32Array[] {
  const localPairs = new LocalPairs();
  return withOwnMemory(1 << 16, (own) =>
    sources.map((source, index) => {
      const { memory } = own, mark = memory.mark();
      onStart(localPairs, index);
      const found = withLocalPairs(contextOf(own, localPairs), source);
      const added = merged(own, found, 0, SMALL.rows);
      memory.u8(4096).fill(255); // what else a chunk takes
      memory.release(mark);
      return added;
    }));
}

/** What a source adds without pairs that are kept. */
const alone = (source: MatrixSource) =>
  withOwnMemory(1 << 16, (own) => merged(own, source, 0, SMALL.rows));

for (const mergesByIntegers of [true, false]) {
  const how = mergesByIntegers ? "in integers" : "in f32";
  const sourceOf = (seed: number) => ({ ...sourceWith({ ...SMALL, seed }), mergesByIntegers });

  Deno.test(`withLocalPairs() finds the pairs of the chunk before, and copies those of another task, ${how}`, () => {
    const [one, other] = [sourceOf(1), sourceOf(50)];
    const sources = [one, one, other, other, one];
    assert.deepEqual(chunksOf(sources), sources.map(alone));
  });

  Deno.test(`withLocalPairs() copies once for all chunks of a task, ${how}`, () => {
    const source = sourceOf(1), before = alone(source);
    const found = chunksOf([source, source], (_, index) => {
      const { form } = source.deltas[0]!;
      if (index === 1 && form.kind === "lora") form.a.fill(7);
    });
    assert.deepEqual(found, [before, before]);
  });

  Deno.test(`withLocalPairs() copies again after a chunk of something else, ${how}`, () => {
    const source = sourceOf(1), wanted = alone(source);
    const other = sourceOf(50),
      found = chunksOf([source, other, source], (pairs, index) => {
        if (index === 2) pairs.clear();
      });
    assert.deepEqual([found[0], found[2]], [wanted, wanted]);
  });
}
