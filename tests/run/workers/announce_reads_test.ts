import assert from "node:assert/strict";
import { readOrder, readsAgain } from "../../../src/run/workers/announce_reads.ts";
import { TaskList } from "../../../src/run/task_list.ts";
import type { QuantizeTask } from "../../../src/run/tasks.ts";

const SOURCE = {
  name: "a.weight",
  file: 1,
  offsetBytes: 1000,
  dtype: "BF16" as const,
  rows: 8,
  cols: 16,
  scale: null,
  convrotGroupSize: null,
};

const QUANTIZE: QuantizeTask = {
  kind: "quantize",
  name: "a.weight",
  source: SOURCE,
  groupRows: 1,
  groupCols: 16,
  convrotGroupSize: null,
  scaleSearch: true,
  compensation: null,
  codesOffsetBytes: 0,
  scalesOffsetBytes: 0,
};

Deno.test("readOrder() lists the stored bytes of every task, in order, and no empty ones", () => {
  const ranges = readOrder([
    QUANTIZE,
    { kind: "copy", name: "b", file: 0, offsetBytes: 7, byteLength: 5, outOffsetBytes: 0 },
    { kind: "copy", name: "c", file: 0, offsetBytes: 12, byteLength: 0, outOffsetBytes: 5 },
    { kind: "compare", name: "d", reference: SOURCE, stored: { ...SOURCE, file: 2, dtype: "I8" } },
    { kind: "scan", name: "e", source: { ...SOURCE, dtype: "F32" }, limit: 1 },
  ]);
  assert.deepEqual(ranges, [
    { file: 1, begin: 1000, end: 1256 },
    { file: 0, begin: 7, end: 12 },
    { file: 1, begin: 1000, end: 1256 },
    { file: 2, begin: 1000, end: 1128 },
    { file: 1, begin: 1000, end: 1512 },
  ]);
});

Deno.test("readsAgain() knows the tasks that read values more than once", () => {
  assert.ok(!readsAgain(new TaskList([QUANTIZE])));
  assert.ok(readsAgain(new TaskList([{ ...QUANTIZE, groupRows: 8 }])));
});
