/** `awq_w4a16`: modulation layers in 4 bits with scales and zeros per group; stock ComfyUI loads it. */

import { type Format, type LayerTensors, type Recognised, unreadable } from "./format.ts";
import { sameShape, shown } from "./layer_shapes.ts";
import type { Report } from "./problem.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";

export const awqW4a16: Format = {
  id: "awq_w4a16",
  title: "AWQ W4A16",
  stockSince: "a version after 0.33.0",
  parts: ["weight_scale", "weight_zeros"],
  recognise: ({ format, weight, parts }) => {
    if (format !== "awq_w4a16" || weight === null) return null;
    const [rows = 1, bytes = 0] = weight.shape;
    return { codes: weight, scale: parts.get("weight_scale"), shape: [rows, 2 * bytes] };
  },
  decode: (_, { codes }) =>
    unreadable(codes, "codes of awq_w4a16 are not decoded here", START_FROM_ORIGINAL),
  problems,
};

function problems(report: Report, { parts, marker }: LayerTensors, { codes }: Recognised): void {
  if ((codes.dtype !== "I8" && codes.dtype !== "U8") || codes.shape.length !== 2) {
    report(
      "weight-dtype",
      "fails at load or computes garbage",
      `${codes.name} is ${shown(codes)}, awq_w4a16 needs I8 [N, K / 2]`,
    );
    return;
  }
  const size = marker?.["group_size"] ?? 64, [rows = 0, bytes = 0] = codes.shape;
  const wanted = [typeof size === "number" ? 2 * bytes / size : 0, rows];
  for (const part of ["weight_scale", "weight_zeros"]) {
    const tensor = parts.get(part);
    if (tensor === undefined) {
      report(
        "scale-missing",
        "fails at load or at the first forward: no scale",
        `it has no ${part}`,
      );
    } else if (!sameShape(tensor.shape, wanted)) {
      report(
        "scale-shape",
        "loads, fails or computes garbage",
        `${tensor.name} is ${shown(tensor)}, must be [${wanted.join(", ")}]`,
      );
    }
  }
}
