import assert from "node:assert/strict";
import { describeNote, fallbackNotes, rowsNote } from "../../src/run/layer_notes.ts";
import type { CompensatedNote, Note } from "../../src/run/note.ts";

const GPTQ: CompensatedNote = {
  kind: "compensated",
  manner: "gptq",
  statistic: "activations",
  directions: null,
  damping: 0.1,
  dampingRaised: false,
  segments: 1,
  deadChannels: 0,
  inRowSpace: false,
};

Deno.test("fallbackNotes() says nothing if data was used as asked", () => {
  assert.deepEqual(fallbackNotes([{ name: "a", note: null }]), []);
  assert.deepEqual(fallbackNotes([{ name: "a", note: GPTQ }]), []);
});

Deno.test("fallbackNotes() has one sentence per reason, with names", () => {
  const fallback = (reason: string): Note => ({ kind: "fallback", reason });
  const zero = (name: string) => ({ name, note: fallback("the Hessian is zero") });
  const layers = [
    ...["a", "b", "c", "d", "e", "f", "g"].map(zero),
    { name: "h", note: fallback("the Hessian is odd") },
    { name: "i", note: { ...GPTQ, damping: 1, dampingRaised: true } },
  ];
  assert.deepEqual(fallbackNotes(layers), [
    "7 layers were rounded to nearest in spite of calibration data, because the Hessian is zero: " +
    "a, b, c, d, e and 2 more",
    "1 layer was rounded to nearest in spite of calibration data, because the Hessian is odd: h",
    "1 layer was compensated with more damping, because the Hessian is not positive semidefinite: i",
  ]);
});

Deno.test("describeNote() words what the method did, and rows that were rounded to nearest", () => {
  const plain = "gptq from activations, damping 0.1";
  assert.equal(describeNote(null, null), null);
  assert.equal(describeNote(GPTQ, null), plain);
  assert.equal(describeNote(GPTQ, { toNearest: 0, all: 64 }), plain);
  const rows = { toNearest: 12, all: 4096 };
  assert.equal(describeNote(GPTQ, rows), `${plain}; 12 of 4,096 rows rounded to nearest`);
  const full: Note = {
    ...GPTQ,
    manner: "transformedQuip",
    directions: 8,
    dampingRaised: true,
    segments: 4,
    deadChannels: 3,
    inRowSpace: true,
  };
  assert.equal(
    describeNote(full, null),
    "quip, stored transformed, from activations and 8 LoRA directions, damping raised to 0.1, " +
      "in 4 segments, 3 dead channels, in the space of the rows",
  );
  const steered = describeNote({ ...GPTQ, statistic: "lora", directions: 2 }, null);
  assert.equal(steered, "gptq from 2 LoRA directions, damping 0.1");
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
