import assert from "node:assert/strict";
import fc from "fast-check";
import { crc32, plainCrc32 } from "../../src/safetensors/crc32.ts";

Deno.test("crc32() and plainCrc32() give the check value of the standard", () => {
  const text = new TextEncoder().encode("123456789");
  for (const sum of [crc32, plainCrc32]) {
    assert.equal(sum(text), 0xcbf43926);
    assert.equal(sum(new Uint8Array()), 0);
    assert.equal(sum(text.subarray(4), sum(text.subarray(0, 4))), 0xcbf43926);
  }
});

Deno.test("plainCrc32() is crc32() for any bytes in two pieces, in shared memory too", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(60), (bytes, cut) => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    const first = plainCrc32(shared.subarray(0, cut));
    assert.equal(plainCrc32(shared.subarray(cut), first), crc32(shared));
  }));
});
