/** Layers that take more than rounding 8-bit codes to nearest: which of the methods does it, and what it takes. */

import type { QuantizeMethods } from "../task_kind.ts";
import { isTeamTask } from "../tasks.ts";
import { gptqLayer, planGptqLayer } from "./gptq_chunk.ts";
import { learnedChunk, learnedLayer, planLearnedChunk, planLearnedLayer } from "./learned_chunk.ts";
import { planLevelsChunk, quantizeLevelsChunk } from "./quantize_levels_chunk.ts";
import { planFloats, quantizeFloats } from "./quantize_floats.ts";
import { planQuipLayer, quipLayer } from "./quip_chunk.ts";

/** A float matrix becomes codes and scales by what its task names. */
export const METHODS: QuantizeMethods = {
  planMemory(memory, task, grid) {
    const { transform, compensation, learned, levels, floats } = task, { own } = memory;
    if (floats !== undefined) planFloats(own, task, floats);
    else if (transform !== undefined) planQuipLayer(memory, task, transform);
    else if (learned !== undefined && compensation !== null) {
      planLearnedLayer(memory, task, { compensation, learned });
    } else if (learned !== undefined) planLearnedChunk(own, task, learned);
    else if (compensation !== null) planGptqLayer(memory, task, compensation);
    else if (levels !== undefined) planLevelsChunk(own, task, levels, grid);
    else throw namesNone(task.name);
  },
  runChunk(context, task, { rect }) {
    if (isTeamTask(task)) throw new TypeError(`Cannot do ${task.name} by one worker`);
    if (task.floats !== undefined) quantizeFloats(context, task, task.floats);
    else if (task.learned !== undefined) learnedChunk(context, task, task.learned);
    else if (task.levels !== undefined) quantizeLevelsChunk(context, task, task.levels, rect);
    else throw namesNone(task.name);
  },
  runTogether(team, task) {
    const { transform, compensation, learned } = task;
    if (transform !== undefined) quipLayer(team, task, transform);
    else if (learned !== undefined && compensation !== null) {
      learnedLayer(team, task, { compensation, learned });
    } else if (compensation !== null) gptqLayer(team, task, compensation);
  },
};

function namesNone(task: string): TypeError {
  return new TypeError(`Cannot quantize ${task}: it names no method`);
}
