import assert from "node:assert/strict";
import { Arena, createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import type { MatrixSource } from "../../../src/formats/matrix_source.ts";
import type { LoraDelta } from "../../../src/lora/lora_delta.ts";
import { LocalPairs, withLocalPairs } from "../../../src/run/chunks/merge_rect.ts";

const RANK = 2, COLS = 8;

/** A weight with two pairs, of values from `first` on. */
function sourceWith(first: number): MatrixSource {
  const deltas = [0, 100].map((more) => ({
    form: {
      kind: "lora",
      rank: RANK,
      a: Float32Array.from({ length: RANK * COLS }, (_, i) => first + more + i),
      b: new Float32Array(RANK),
    },
    magnitude: null,
  }));
  return { deltas: deltas as unknown as readonly LoraDelta[] } as MatrixSource;
}

const factors = ({ deltas }: MatrixSource) =>
  deltas!.map(({ form }) => form.kind === "lora" ? [...form.a] : []);

/** Does chunks one after the other, as a worker does; returns the factors that each finds, as they were copied. */
function chunksOf(
  sources: readonly MatrixSource[],
  { onStart = () => {} }: { onStart?: (pairs: LocalPairs, index: number, arena: Arena) => void } =
    {},
): number[][][] {
  const arena = new Arena(createSharedMemory(1 << 16), 0, 1 << 16), localPairs = new LocalPairs();
  return sources.map((source, index) => {
    const mark = arena.mark();
    onStart(localPairs, index, arena);
    const found = factors(withLocalPairs({ scratch: arena, localPairs }, source));
    arena.u8(4096).fill(255); // what else a chunk takes
    arena.release(mark);
    return found;
  });
}

Deno.test("withLocalPairs() finds the pairs of the chunk before, and copies those of another task", () => {
  const [one, other] = [sourceWith(1), sourceWith(50)];
  const sources = [one, one, other, other, one];
  assert.deepEqual(chunksOf(sources), sources.map(factors));
});

Deno.test("withLocalPairs() copies once for all chunks of a task", () => {
  const source = sourceWith(1), before = factors(source);
  const found = chunksOf([source, source], {
    onStart: (_, index) => {
      const form = source.deltas![0]!.form;
      if (index === 1 && form.kind === "lora") form.a.fill(7);
    },
  });
  assert.deepEqual(found, [before, before]);
});

Deno.test("withLocalPairs() copies again after a chunk of something else", () => {
  const source = sourceWith(1);
  const found = chunksOf([source, source], {
    onStart: (pairs, index, arena) => {
      if (index === 0) return;
      pairs.clear();
      const mark = arena.mark();
      arena.u8(4096).fill(255);
      arena.release(mark);
    },
  });
  assert.deepEqual(found, [factors(source), factors(source)]);
});
