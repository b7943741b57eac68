import assert from "node:assert/strict";
import { floatMatrix } from "../../src/formats/float_matrix.ts";
import { shareTasks, WorkerTasks } from "../../src/run/shared_tasks.ts";
import { TaskList } from "../../src/run/task_list.ts";
import type { CastTask, CopyTask, QuantizeTask, Task } from "../../src/run/tasks.ts";

const tensor = (name: string, rows: number, offsetBytes: number) =>
  floatMatrix({
    name,
    dtype: "BF16",
    shape: [rows, 64],
    file: 0,
    offsetBytes,
    byteLength: 128 * rows,
  });

function quantize(name: string, rows: number, at: number): QuantizeTask {
  return {
    kind: "quantize",
    name,
    source: tensor(name, rows, 128 * at),
    groupRows: 1,
    groupCols: 64,
    convrotGroupSize: 16,
    scaleSearch: true,
    compensation: null,
    codesOffsetBytes: at, // 0 for one of them
    scalesOffsetBytes: 2 ** 41 + at,
  };
}

const copy = (name: string, byteLength: number, at: number): CopyTask => ({
  kind: "copy",
  name,
  file: 1,
  offsetBytes: 2 ** 40 + at,
  byteLength,
  outOffsetBytes: at,
});

const cast = (name: string, at: number, dtype: CastTask["dtype"]): CastTask => ({
  kind: "cast",
  name,
  source: tensor(name, 3, at),
  dtype,
  outOffsetBytes: 7 + at,
});

/** Many of few patterns, and some that nothing is like. */
const TASKS: readonly Task[] = [
  ...Array.from({ length: 20 }, (_, i) => quantize(`blöcke.${i}.q`, i % 2 === 0 ? 8 : 40_000, i)),
  { ...quantize("rotated", 8, 90), convrotGroupSize: null },
  { ...quantize("rotated twice", 8, 91), convrotGroupSize: null },
  { ...quantize("renamed", 8, 92), source: tensor("another", 8, 1) },
  { ...quantize("on a GPU", 8, 93), onGpu: { chunkElements: 64, maxElements: 9, storage: "f32" } },
  { ...quantize("on a GPU", 8, 94), onGpu: { chunkElements: 64, maxElements: 9, storage: "f32" } },
  copy("", 9, 1),
  copy("\ufeffb", 9, 2),
  copy("c", 10, 3),
  copy("empty", 0, 4),
  cast("d", 5, "F16"),
  cast("e", 6, "F16"),
  cast("f", 7, "BF16"),
];

Deno.test("WorkerTasks gives the tasks, chunks and grids of the list that was shared", () => {
  const list = new TaskList(TASKS), shared = structuredClone(shareTasks(list));
  const tasks = new WorkerTasks(shared);
  TASKS.forEach((task, i) => {
    assert.deepEqual(tasks.at(i), task);
    assert.equal(tasks.at(i), tasks.at(i));
    assert.deepEqual(tasks.gridOf(i), list.grids[i]);
  });
  // In another order, so that nothing depends on the one that was made before.
  for (const i of [30, 0, 12, 29, 13]) assert.deepEqual(tasks.at(i), TASKS[i]);
  assert.deepEqual([...tasks.firstChunk], list.firstChunk);
  assert.equal(tasks.chunkCount, list.chunkCount);
  assert.deepEqual([tasks.teamCount, tasks.endAlone], [list.teamCount, list.endAlone]);
  for (let chunk = 0; chunk < list.chunkCount; chunk++) {
    assert.equal(tasks.taskOf(chunk), list.taskOf(chunk));
  }
});

Deno.test("shareTasks() keeps one task of all that differ in names and places only", () => {
  const { patterns } = shareTasks(new TaskList(TASKS));
  assert.deepEqual(patterns.map(({ name }) => name), [
    ...["blöcke.0.q", "blöcke.1.q", "rotated", "renamed", "on a GPU", "on a GPU"],
    ...["", "c", "empty", "d", "f"],
  ]);
});

Deno.test("shareTasks() shares what a list of no tasks needs", () => {
  const tasks = new WorkerTasks(shareTasks(new TaskList([])));
  assert.deepEqual([tasks.chunkCount, tasks.teamCount, tasks.endAlone], [0, 0, 0]);
});
