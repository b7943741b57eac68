import assert from "node:assert/strict";
import { createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import { copierBetween } from "../../../web/files/memory_copy.ts";

Deno.test("copierBetween() copies from the first memory to the second, and only what it is asked for", () => {
  const from = createSharedMemory(1 << 16), to = createSharedMemory(1 << 17);
  const source = new Uint8Array(from.buffer), target = new Uint8Array(to.buffer);
  source.forEach((_, i) => source[i] = i % 251);
  const copy = copierBetween(from, to)!;
  copy(70_001, 13, 1000);
  assert.deepEqual(target.slice(70_001, 71_001), source.slice(13, 1013));
  assert.equal(target.reduce((sum, byte) => sum + Number(byte !== 0), 0), 1000 - 4);
  assert.equal(source[13], 13);
  assert.throws(() => copy(70_001, 65_000, 1000), WebAssembly.RuntimeError);
});

Deno.test("copierBetween() has nothing to offer if the engine takes one memory only", () => {
  const { validate } = WebAssembly;
  WebAssembly.validate = () => false;
  try {
    assert.equal(copierBetween(createSharedMemory(1), createSharedMemory(1)), null);
  } finally {
    WebAssembly.validate = validate;
  }
});
