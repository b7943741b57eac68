import assert from "node:assert/strict";
import {
  DAMPING_RAISED,
  fallbackNotes,
  ROUNDED_TO_NEAREST,
} from "../../src/pipeline/layer_notes.ts";

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
