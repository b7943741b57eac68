/** SVDQuant of nunchaku: `qweight` with a low-rank branch, smoothing and scales of its own. */

import type { LayerTensors } from "./format.ts";
import { refusedFormat } from "./refused_format.ts";

const PARTS = [
  "wscales",
  "wzeros",
  "wtscale",
  "lora_down",
  "lora_up",
  "proj_down",
  "proj_up",
  "smooth",
  "smooth_factor",
  "smooth_orig",
  "smooth_factor_orig",
];

/** Whether codes named `qweight` are those of nunchaku. */
export function isNunchaku({ parts }: LayerTensors): boolean {
  return parts.has("qweight") && PARTS.some((part) => parts.has(part));
}

export const nunchaku = refusedFormat({
  id: "nunchaku",
  title: "SVDQuant of nunchaku",
  codesIn: (layer) => isNunchaku(layer) ? layer.parts.get("qweight") : null,
  advice: "start from the original weights: this file is for the nunchaku nodes",
});
