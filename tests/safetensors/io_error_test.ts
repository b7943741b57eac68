import assert from "node:assert/strict";
import { codeOf, explained, ioReason } from "../../src/safetensors/io_error.ts";

function withCode(code: string): Error {
  return Object.assign(new Error(`${code}: as the system says it`), { code });
}

Deno.test("ioReason() gives words for known codes and the message for others", () => {
  assert.equal(ioReason(withCode("EACCES")), "permission denied");
  assert.equal(ioReason(withCode("ENOSPC")), "the disk is full");
  assert.equal(ioReason(withCode("EWHAT")), "EWHAT: as the system says it");
  assert.equal(ioReason(new TypeError("not a code")), "not a code");
  assert.equal(ioReason("a string"), "a string");
});

Deno.test("codeOf() is null for errors without a code", () => {
  assert.equal(codeOf(withCode("EIO")), "EIO");
  assert.equal(codeOf(new Error("x")), null);
  assert.equal(codeOf(null), null);
});

Deno.test("explained() passes results on and keeps the cause of a failure", () => {
  assert.equal(explained("Cannot", () => 5), 5);
  const cause = withCode("EROFS");
  assert.throws(() =>
    explained('Cannot write "x"', () => {
      throw cause;
    }), { message: 'Cannot write "x": the file system is read-only', cause });
});
