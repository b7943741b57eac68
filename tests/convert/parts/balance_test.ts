import assert from "node:assert/strict";
import { assignLayers, layerCosts } from "../../../src/convert/parts/split_plan.ts";
import { prepare } from "../../../src/convert/prepare.ts";
import { makeTasks } from "../../../src/run/make_tasks.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import type { Task } from "../../../src/run/tasks.ts";
import { HEADER_NAMES, writeSparseModel } from "../../support/header_files.ts";
import { temporaryFolder } from "../../support/model_files.ts";

/** The costliest part over the mean. */
function imbalance(costs: ReadonlyMap<string, number>, count: number): number {
  const loads = new Array<number>(count).fill(0);
  for (const [layer, part] of assignLayers(costs, count)) loads[part - 1]! += costs.get(layer)!;
  return Math.max(...loads) / (loads.reduce((sum, load) => sum + load, 0) / count);
}

/** Float models in the layout that is converted. */
const REAL = HEADER_NAMES.filter((name) =>
  /^(flux|wan|qwen-image)/.test(name) && !/fp8|int8|diffusers/.test(name)
);

Deno.test("the headers of Flux, Wan and Qwen-Image are there", () => {
  for (const family of [/flux/i, /wan/i, /qwen/i]) {
    assert(REAL.some((name) => family.test(name)), `${family}: ${REAL}`);
  }
});

for (const name of REAL) {
  Deno.test(`assignLayers() splits ${name} into 8 parts within 1.15 of the mean, by both costs`, () => {
    using folder = temporaryFolder();
    const prepared = prepare(writeSparseModel(name, folder.path), DEFAULT_CONVERT_OPTIONS);
    const { tasks } = makeTasks(prepared.plan, prepared.matrixOf);
    assert(imbalance(layerCosts(prepared.plan, tasks), 8) <= 1.15);
    const withData = tasks.map((task): Task =>
      task.kind !== "quantize" ? task : {
        ...task,
        compensation: { rows: 1024 } as unknown as NonNullable<typeof task.compensation>,
      }
    );
    assert(imbalance(layerCosts(prepared.plan, withData), 8) <= 1.15);
  });
}

Deno.test("assignLayers() gives every part a layer, also if layers cost nothing", () => {
  const costs = new Map([["a", 0], ["b", 0], ["c", 5]]);
  assert.deepEqual(new Set(assignLayers(costs, 3).values()), new Set([1, 2, 3]));
  assert.throws(() => assignLayers(costs, 4), /it has 3 layers/);
});
