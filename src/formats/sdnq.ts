/** SDNQ of SD.Next: codes with `scale`, a `zero_point` or a low-rank branch. */

import { refusedFormat } from "./refused_format.ts";

export const sdnq = refusedFormat({
  id: "sdnq",
  title: "SDNQ",
  codesIn: ({ weight, parts, marker }) => {
    if (weight === null || marker !== null) return null;
    const hasBranch = parts.has("svd_up") || parts.has("svd_down");
    return hasBranch || (parts.has("scale") && parts.has("zero_point")) ? weight : null;
  },
});
