/** HQQ: `W_q` with its grouping beside it. */

import { refusedFormat } from "./refused_format.ts";

export const hqq = refusedFormat({
  id: "hqq",
  title: "HQQ",
  codesIn: ({ parts }) => parts.get("W_q") ?? parts.get("weight.W_q"),
});
