import assert from "node:assert/strict";
import { compensationBy } from "../../src/calibration/compensation.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { groupedLevels, type LevelScheme } from "../../src/quant/level_grid.ts";
import { gpuWorkOf, placementWithin, placeOnGpu } from "../../src/run/gpu_tasks.ts";
import { isDoneAlone } from "../../src/run/task_kinds.ts";
import { TaskList } from "../../src/run/task_list.ts";
import type { QuantizeTask } from "../../src/run/tasks.ts";
import { provideMoreKinds } from "../../src/run/loaded_kinds.ts";
import { MORE_KINDS } from "../../src/run/more_kinds.ts";

provideMoreKinds(MORE_KINDS);

const LIMITS = { maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 };

/** A layer of 256 x 256 that is rounded to nearest. */
function layer(changes: Partial<QuantizeTask>): QuantizeTask {
  return {
    kind: "quantize",
    name: "a.weight",
    source: {
      ...{ name: "a.weight", file: 0, offsetBytes: 0, dtype: "BF16", rows: 256, cols: 256 },
      ...{ scale: null, convrotGroupSize: null },
    },
    ...{ groupRows: 1, groupCols: 256, convrotGroupSize: null, scaleSearch: false },
    ...{ compensation: null, codesOffsetBytes: 0, scalesOffsetBytes: 0 },
    ...changes,
  };
}

function onLevels(scheme: LevelScheme, changes: Partial<QuantizeTask> = {}): QuantizeTask {
  return layer({ ...changes, levels: { scheme, choicesOffsetBytes: 0 } });
}

const FOUR = groupedLevels({ bits: 4, groupCols: 16 });
const SIX = groupedLevels({ bits: 6, groupCols: 16 });

/** What a run of `task` alone needs, sorted; null: it stays on the CPU. */
function workOf(task: QuantizeTask): string[] | null {
  const [placed] = placeOnGpu([task], placementWithin(LIMITS)) as [QuantizeTask];
  return placed.onGpu === undefined ? null : [...gpuWorkOf([placed])].sort();
}

Deno.test("gpuWorkOf() names what a layer needs that is rounded to nearest, and nothing else", () => {
  assert.deepEqual(workOf(layer({})), ["rounding"]);
  assert.deepEqual(workOf(layer({ scaleSearch: true })), ["rounding", "searching scales"]);
  assert.deepEqual(workOf(layer({ convrotGroupSize: 256 })), ["rotating", "rounding"]);
  assert.deepEqual(workOf(layer({ convrotGroupSize: 4096 })), [
    "rotating large groups",
    "rounding",
  ]);
});

/** A layer of `size` x `size` that is compensated by as many rows of inputs as most runs have. */
function compensated(name: string, size: number): QuantizeTask {
  const compensation = compensationBy({
    ...{ statistic: "activations", rows: 1024, cols: size },
    data: { kind: "file", file: 1, offsetBytes: 0, dtype: "F32", path: "data.safetensors" },
  }, DEFAULT_CONVERT_OPTIONS);
  const source = { ...layer({}).source, name, rows: size, cols: size };
  return layer({ name, source, groupCols: size, compensation });
}

Deno.test("placeOnGpu() puts layers that leave one worker for the GPU before those that stay with one", () => {
  const tasks = [256, 1024, 320, 1024, 256].map((size, i) => compensated(`${i}.weight`, size));
  tasks.push(layer({ name: "5.weight" }));
  assert.deepEqual(tasks.map(isDoneAlone), [true, true, true, true, true, false]);
  const placed = placeOnGpu(tasks, placementWithin(LIMITS));
  const list = new TaskList(placed);
  assert.deepEqual([list.teamCount, list.aloneCount], [2, 3]);
  assert.deepEqual(placed.map(({ name }) => Number.parseInt(name)), [1, 3, 0, 2, 4, 5]);
});

Deno.test("placeOnGpu() gives a device layers of every format", () => {
  // Groups choose their sets in any case: `scaleSearch` asks for nothing more.
  const changes = { convrotGroupSize: 256, scaleSearch: true };
  assert.deepEqual(workOf(onLevels(FOUR, changes)), ["rotating", "rounding to tables"]);
  assert.deepEqual(workOf(onLevels(SIX, changes)), ["rotating", "rounding to steps"]);
  const int4 = { kind: "int4", bits: 4 } as const;
  assert.deepEqual(workOf(onLevels(int4)), ["rounding to one set"]);
  assert.deepEqual(workOf(onLevels(int4, changes)), [
    ...["rotating", "rounding to one set", "searching clips"],
  ]);
  for (const kind of ["e4m3", "e4m3Groups", "e2m1Groups"] as const) {
    const floats = { scheme: { kind }, paddedRows: 256, wholeScaleOffsetBytes: null };
    assert.deepEqual(workOf(layer({ floats, scaleSearch: true })), ["rounding to floats"]);
  }
});
