/** EXL2 and EXL3 of ExLlama: packed codes of mixed widths (`q_weight`), and trellis codes. */

import { refusedFormat } from "./refused_format.ts";

export const exllama = refusedFormat({
  id: "exllama",
  title: "EXL2 or EXL3 of ExLlama",
  codesIn: ({ parts }) => parts.get("q_weight") ?? parts.get("trellis"),
});
