/** Kinds of tasks, and ways to quantize, that are loaded when a run needs them: `loaded_kinds.ts`. */

import { CORRECT_BIAS } from "./chunks/bias_chunk.ts";
import { INPUT_SCALE } from "./chunks/input_scale_chunk.ts";
import { MEASURE_OUTPUTS } from "./chunks/measure_chunk.ts";
import { METHODS } from "./chunks/methods.ts";
import { ENCODE } from "./encoder/encode_kind.ts";
import type { MoreKinds } from "./task_kind.ts";

/** All of them. */
export const MORE_KINDS: MoreKinds = {
  methods: METHODS,
  inputScale: INPUT_SCALE,
  measure: MEASURE_OUTPUTS,
  correctBias: CORRECT_BIAS,
  encode: ENCODE,
};
