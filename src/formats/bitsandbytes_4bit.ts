/** NF4 and FP4 of bitsandbytes: packed codes with `absmax`, `quant_map` and `quant_state`. */

import { refusedFormat } from "./refused_format.ts";

const PARTS = /(^|\.)(absmax|nested_absmax|quant_map|nested_quant_map|quant_state(\..*)?)$/;

export const bitsandbytes4bit = refusedFormat({
  id: "bitsandbytes_4bit",
  title: "NF4 or FP4 of bitsandbytes",
  codesIn: ({ weight, parts }) =>
    [...parts.keys()].some((part) => PARTS.test(part)) ? weight : null,
});
