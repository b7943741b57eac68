/** MLX: codes in U32 with `scales` and `biases`. */

import { refusedFormat } from "./refused_format.ts";

export const mlx = refusedFormat({
  id: "mlx",
  title: "MLX",
  codesIn: ({ weight, parts }) => weight?.dtype === "U32" && parts.has("scales") ? weight : null,
});
