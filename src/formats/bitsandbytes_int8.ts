/** LLM.int8 of bitsandbytes: I8 `[N, K]` with the largest magnitudes of rows, `SCB`. */

import { refusedFormat } from "./refused_format.ts";

export const bitsandbytesInt8 = refusedFormat({
  id: "bitsandbytes_int8",
  title: "LLM.int8 of bitsandbytes",
  codesIn: ({ weight, parts }) => parts.has("SCB") || parts.has("weight.SCB") ? weight : null,
});
