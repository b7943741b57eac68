/** Layers that are quantized: which of the methods does it, and what it takes. */

import { quantizeGrid } from "../quantize_grid.ts";
import type { TaskKind } from "../task_kind.ts";
import { isTeamTask, type QuantizeTask } from "../tasks.ts";
import { gptqLayer, planGptqLayer } from "./gptq_chunk.ts";
import { learnedChunk, learnedLayer, planLearnedChunk, planLearnedLayer } from "./learned_chunk.ts";
import { planChunk, quantizeChunk } from "./quantize_chunk.ts";
import { planLevelsChunk, quantizeLevelsChunk } from "./quantize_levels_chunk.ts";
import { planFloats, quantizeFloats } from "./quantize_floats.ts";
import { planQuipLayer, quipLayer } from "./quip_chunk.ts";
import { planStream, streamGroup } from "./stream_group.ts";

/** A float matrix becomes codes and scales. */
export const QUANTIZE: TaskKind<QuantizeTask> = {
  matrices: ({ source }) => [source],
  readsAgain: (task) => isTeamTask(task) || task.learned !== undefined,
  needsLinalg: (task) => isTeamTask(task) || task.learned !== undefined,
  grid: quantizeGrid,
  planMemory(memory, task, grid) {
    const { transform, compensation, learned, levels, floats } = task, { own } = memory;
    if (floats !== undefined) planFloats(own, task, floats);
    else if (transform !== undefined) planQuipLayer(memory, task, transform);
    else if (learned !== undefined && compensation !== null) {
      planLearnedLayer(memory, task, { compensation, learned });
    } else if (learned !== undefined) planLearnedChunk(own, task, learned);
    else if (compensation !== null) planGptqLayer(memory, task, compensation);
    else if (levels !== undefined) planLevelsChunk(own, task, levels, grid);
    else if (grid.streamed) planStream(own, task);
    else planChunk(own, task, grid);
  },
  runChunk(context, task, { rect, grid }) {
    if (isTeamTask(task)) throw new TypeError(`Cannot do ${task.name} by one worker`);
    if (task.floats !== undefined) quantizeFloats(context, task, task.floats);
    else if (task.learned !== undefined) learnedChunk(context, task, task.learned);
    else if (task.levels !== undefined) quantizeLevelsChunk(context, task, task.levels, rect);
    else if (grid.streamed) streamGroup(context, task, rect);
    else quantizeChunk(context, task, rect);
  },
  runTogether(team, task) {
    const { transform, compensation, learned } = task;
    if (transform !== undefined) quipLayer(team, task, transform);
    else if (learned !== undefined && compensation !== null) {
      learnedLayer(team, task, { compensation, learned });
    } else if (compensation !== null) gptqLayer(team, task, compensation);
  },
};
