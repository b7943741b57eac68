import assert from "node:assert/strict";
import {
  DAMPING_RAISED,
  fallbackNotes,
  noteWithRows,
  ROUNDED_TO_NEAREST,
  rowsNote,
} from "../../src/run/layer_notes.ts";

Deno.test("fallbackNotes() says nothing where data was used as asked", () => {
  assert.deepEqual(fallbackNotes([{ name: "a", note: null }]), []);
  assert.deepEqual(fallbackNotes([{ name: "a", note: "gptq from activations, damping 0.1" }]), []);
});

Deno.test("fallbackNotes() has one sentence per reason, with names", () => {
  const zero = (name: string) => ({ name, note: `${ROUNDED_TO_NEAREST}the Hessian is zero` });
  const layers = [
    ...["a", "b", "c", "d", "e", "f", "g"].map(zero),
    { name: "h", note: `${ROUNDED_TO_NEAREST}the Hessian is odd` },
    { name: "i", note: `gptq from hessian, ${DAMPING_RAISED} 1` },
  ];
  assert.deepEqual(fallbackNotes(layers), [
    "7 layers were rounded to nearest in spite of calibration data, because the Hessian is zero: " +
    "a, b, c, d, e and 2 more",
    "1 layer was rounded to nearest in spite of calibration data, because the Hessian is odd: h",
    "1 layer was compensated with more damping, because the Hessian is not positive semidefinite: i",
  ]);
});

Deno.test("noteWithRows() adds rows that were rounded to nearest, where there are any", () => {
  assert.equal(noteWithRows("gptq", { toNearest: 0, all: 64 }), "gptq");
  assert.equal(noteWithRows("gptq", null), "gptq");
  assert.equal(noteWithRows(null, null), null);
  const found = noteWithRows("gptq", { toNearest: 12, all: 4096 });
  assert.equal(found, "gptq; 12 of 4,096 rows rounded to nearest");
});

Deno.test("rowsNote() sums rows of all layers up, and names those that are mostly to nearest", () => {
  const layer = (name: string, toNearest: number, all: number) => ({
    name,
    compensated: { toNearest, all },
  });
  const plain = { name: "plain", compensated: null };
  assert.equal(rowsNote([]), null);
  assert.equal(rowsNote([layer("a", 0, 8), plain]), null);
  assert.equal(
    rowsNote([layer("a", 12, 960), plain, layer("b", 0, 40_000)]),
    "12 of 40,960 rows rounded to nearest: the data gave no clear gain there",
  );
  assert.equal(
    rowsNote([layer("a", 4, 8), layer("b", 5, 8), layer("c", 1, 1)]),
    "10 of 17 rows rounded to nearest: the data gave no clear gain there (most rows of b, c)",
  );
});
