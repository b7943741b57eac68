import assert from "node:assert/strict";
import { keepHeapSmall, type RunSize, type Runtime } from "../../src/cli/small_heap.ts";

/** The flags of V8 that `run` sets on a runtime of `versions`. */
function flagsOf(run: RunSize, versions: Runtime["versions"] = { node: "20.20.2" }): string[] {
  const set: string[] = [];
  const getBuiltinModule = () => ({ setFlagsFromString: (flags: string) => void set.push(flags) });
  keepHeapSmall(run, { versions, getBuiltinModule });
  return set;
}

Deno.test("keepHeapSmall() asks V8 of Node, for runs that get no slower by it", () => {
  assert.deepEqual(flagsOf({ tensors: 600, hasData: false }), ["--optimize-for-size"]);
  assert.deepEqual(flagsOf({ tensors: 600, hasData: true }), []);
  assert.deepEqual(flagsOf({ tensors: 100_000, hasData: false }), []);
});

Deno.test("keepHeapSmall() leaves other runtimes alone, and Node that cannot be asked", () => {
  const run: RunSize = { tensors: 600, hasData: false };
  assert.deepEqual(flagsOf(run, { node: "24.0.0", deno: "2.9.6" }), []);
  assert.deepEqual(flagsOf(run, { node: "24.0.0", bun: "1.3.0" }), []);
  keepHeapSmall(run, { versions: { node: "20.10.0" } });
});
