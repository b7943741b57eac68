/** GPTQ and AWQ: 4 or 8 bits in I32, `qweight` with `qzeros` and `scales`. */

import { refusedFormat } from "./refused_format.ts";
import { isNunchaku } from "./nunchaku.ts";

export const gptqAwq = refusedFormat({
  id: "gptq_awq",
  title: "GPTQ or AWQ",
  codesIn: (layer) => isNunchaku(layer) ? null : layer.parts.get("qweight"),
});
