import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type Piece, WriteBehind } from "../../../web/files/write_behind.ts";
import { synthetic } from "./synthetic.ts";

const MB = 1 << 20;

/** Writes pieces in the order given; returns the file that came of it, and the sizes of the writes. */
function written(
  size: number,
  pieces: readonly (readonly [position: number, length: number])[],
): { file: Uint8Array; expected: Uint8Array; sizes: number[] } {
  const file = new Uint8Array(size), expected = new Uint8Array(size), sizes: number[] = [];
  const behind = new WriteBehind();
  const write = (pieces: Iterable<Piece>) => {
    for (const { data, position } of pieces) {
      file.set(data, position);
      sizes.push(data.length);
      data.fill(255); // its memory is used again
    }
  };
  for (const [i, [position, length]] of pieces.entries()) {
    const view = synthetic(length, i);
    expected.set(view, position);
    write(behind.take(view, position));
    view.fill(0); // what it took is a copy
  }
  write(behind.rest());
  return { file, expected, sizes };
}

Deno.test("WriteBehind writes what it was given, whatever the order and the size", () => {
  const pieces: [number, number][] = [];
  for (let i = 0; i < 40; i++) pieces.push([((i * 17) % 40) * 700_001, 700_001]);
  pieces.push([3, 10], [1_000_000, 9 * MB], [0, 1]);
  const { file, expected } = written(40 * 700_001, pieces);
  assert.ok(Buffer.from(file.buffer).equals(expected));
});

Deno.test("WriteBehind makes few large writes of small ones that follow one another", () => {
  const pieces = Array.from({ length: 1024 }, (_, i): [number, number] => [i * 16_384, 16_384]);
  const { file, expected, sizes } = written(16 * MB, pieces);
  assert.ok(Buffer.from(file.buffer).equals(expected));
  assert.deepEqual(sizes, [4 * MB, 4 * MB, 4 * MB, 4 * MB]);
});

Deno.test("WriteBehind writes no byte that it was not given", () => {
  const { file, expected, sizes } = written(8 * MB, [[5, 10], [6 * MB, 20]]);
  assert.ok(Buffer.from(file.buffer).equals(expected));
  assert.deepEqual(sizes, [10, 20]);
});
