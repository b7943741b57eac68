/** quanto: `weight._data` and `weight._scale`, as the parts of a tensor. */

import { refusedFormat } from "./refused_format.ts";

export const quanto = refusedFormat({
  id: "quanto",
  title: "quanto",
  codesIn: ({ parts }) => parts.get("weight._data") ?? parts.get("weight._data._data"),
});
