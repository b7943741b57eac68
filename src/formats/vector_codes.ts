/** AQLM and QuIP#: every code stands for a vector of a codebook. */

import { refusedFormat } from "./refused_format.ts";

export const vectorCodes = refusedFormat({
  id: "vector_codes",
  title: "AQLM or QuIP#",
  codesIn: ({ parts }) =>
    parts.get("Qidxs") ?? (parts.has("codebooks") ? parts.get("codes") : null),
});
