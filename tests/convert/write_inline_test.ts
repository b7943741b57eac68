import assert from "node:assert/strict";
import { writeBeside } from "../../src/convert/write_inline.ts";

const INLINE = Array.from(
  { length: 1000 },
  (_, i) => ({ bytes: Uint8Array.of(i), offsetBytes: 10 * i }),
);

/** Where writes go: their offsets. */
class Written {
  readonly offsets: number[] = [];
  write(_bytes: Uint8Array, offsetBytes: number): void {
    this.offsets.push(offsetBytes);
  }
}

/** Work that ends only if it is ended. */
function endless(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(new Error("ended")))
  );
}

Deno.test("writeBeside() starts the other work first, lets its reports through, and waits for both", async () => {
  const output = new Written();
  let atStart = -1, atReport = -1;
  const result = await writeBeside(output, INLINE, {
    signal: undefined,
    run: async () => {
      atStart = output.offsets.length;
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
      atReport = output.offsets.length;
      return "done";
    },
  });
  assert.equal(result, "done");
  assert.equal(atStart, 0);
  assert.ok(atReport > 0 && atReport < INLINE.length, `${atReport}`);
  assert.deepEqual(output.offsets, INLINE.map(({ offsetBytes }) => offsetBytes));
});

Deno.test("writeBeside() ends the other work if a write fails, and throws that error", async () => {
  const full = { write: () => assert.fail("disk full") };
  const run = (signal: AbortSignal) => endless(signal);
  await assert.rejects(writeBeside(full, INLINE, { signal: undefined, run }), /disk full/);
  // Work that is done before it is told makes no file of that either.
  const quick = () => Promise.resolve(1);
  await assert.rejects(writeBeside(full, INLINE, { signal: undefined, run: quick }), /disk full/);
});

Deno.test("writeBeside() writes no more once the other work failed, or was interrupted", async () => {
  const output = new Written(), interrupt = new AbortController();
  const broken = () => Promise.reject(new Error("broken"));
  await assert.rejects(writeBeside(output, INLINE, { signal: undefined, run: broken }), /broken/);
  const { signal } = interrupt, ended = writeBeside(output, INLINE, { signal, run: endless });
  interrupt.abort();
  await assert.rejects(ended, /ended/);
  assert.equal(output.offsets.length, 0);
});
