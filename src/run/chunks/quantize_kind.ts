/** Layers that are quantized: to nearest by code that is always there, else by a method that is loaded. */

import { moreKinds, needsMoreKinds } from "../loaded_kinds.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import type { TaskKind } from "../task_kind.ts";
import { isTeamTask, type QuantizeTask } from "../tasks.ts";
import { planChunk, quantizeChunk } from "./quantize_chunk.ts";
import { planStream, streamGroup } from "./stream_group.ts";

/** A float matrix becomes codes and scales. */
export const QUANTIZE: TaskKind<QuantizeTask> = {
  matrices: ({ source }) => [source],
  readsAgain: (task) => isTeamTask(task) || task.learned !== undefined,
  needsLinalg: (task) => isTeamTask(task) || task.learned !== undefined,
  grid: quantizeGrid,
  planMemory(memory, task, grid) {
    if (needsMoreKinds(task)) moreKinds().methods.planMemory(memory, task, grid);
    else if (grid.streamed) planStream(memory.own, task);
    else planChunk(memory.own, task, grid);
  },
  runChunk(context, task, chunk) {
    if (needsMoreKinds(task)) moreKinds().methods.runChunk(context, task, chunk);
    else if (chunk.grid.streamed) streamGroup(context, task, chunk.rect);
    else quantizeChunk(context, task, chunk.rect);
  },
  runTogether: (team, task) => moreKinds().methods.runTogether(team, task),
};
