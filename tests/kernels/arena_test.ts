import assert from "node:assert/strict";
import fc from "fast-check";
import { Arena, createSharedMemory } from "../../src/backend/cpu/arena.ts";
import { ARRAY_ALIGNMENT } from "../../src/core/counted_memory.ts";

Deno.test("Arena hands out aligned arrays that never overlap and stay in its region", () => {
  const memory = createSharedMemory(1 << 17);
  const kinds = ["f32", "f64", "u8", "i8", "u16", "i32", "u32"] as const;
  const request = fc.tuple(fc.constantFrom(...kinds), fc.nat(300));
  fc.assert(fc.property(fc.array(request, { maxLength: 30 }), fc.nat(100), (requests, base) => {
    const arena = new Arena(memory, base, 100_000);
    let end = base;
    for (const [kind, count] of requests) {
      const array = arena[kind](count);
      assert.equal(array.length, count);
      assert.equal(array.byteOffset % ARRAY_ALIGNMENT, 0);
      assert(array.byteOffset >= end);
      end = array.byteOffset + array.byteLength;
      assert(end <= base + 100_000);
    }
    assert.equal(arena.peakBytes, requests.length === 0 ? 0 : end - base);
  }));
});

Deno.test("Arena gives back everything since a mark, and remembers its peak", () => {
  const arena = new Arena(createSharedMemory(65536), 0, 4096);
  arena.f32(16);
  const mark = arena.mark();
  const first = arena.f32(256);
  arena.release(mark);
  const second = arena.u8(10);
  assert.equal(second.byteOffset, first.byteOffset);
  assert.equal(arena.peakBytes, 64 + 1024);
  assert.throws(() => arena.release(mark + 4096), /Cannot release arena: mark 4160 is not within/);
});

Deno.test("Arena says what an allocation needs and what is left", () => {
  const arena = new Arena(createSharedMemory(65536), 0, 1000);
  arena.u8(100);
  assert.equal(arena.freeBytes, 1000 - 128);
  assert.throws(
    () => arena.f32(300),
    { name: "RangeError", message: "Cannot allocate in arena: need 1200 bytes, have 872 of 1000" },
  );
  assert.equal(arena.f32(218).length, 218);
  assert.equal(arena.freeBytes, 0);
  assert.throws(() => arena.u8(-1), /Cannot allocate in arena: -1 is not a number of elements/);
  assert.throws(() => arena.f64(0.5), /Cannot allocate in arena: 0.5 is not a number of elements/);
});

Deno.test("Arena and createSharedMemory reject what does not exist", () => {
  const memory = createSharedMemory(100_000);
  assert.equal(memory.buffer.byteLength, 2 * 65536);
  assert.throws(
    () => new Arena(memory, 100_000, 65536),
    /Cannot place arena: need bytes 100000 to 165536, memory has 131072/,
  );
  assert.throws(
    () => createSharedMemory(2 ** 32 + 1),
    /need 4294967297 bytes, the most is 4294967296/,
  );
});
