/** Detections in words. */

import type { Detection } from "./preset.ts";
import { familyById } from "./registry.ts";

/**
 * Returns one line for people: `flux2 (FLUX.2), balanced keep-list of 8 patterns`.
 */
export function explain(detection: Detection): string {
  const evidence = detection.evidence[0];
  const because = evidence === undefined ? "" : `, recognised by ${JSON.stringify(evidence)}`;
  const prefix = detection.prefix === "" ? "" : `, prefix ${JSON.stringify(detection.prefix)}`;
  if (detection.family !== null) {
    const family = familyById(detection.family);
    const head = `${family.id} (${family.title})${prefix}`;
    if (family.refuse !== undefined) return `${head}, not converted: ${family.refuse}`;
    const count = family.keepBalanced.length;
    return `${head}, balanced keep-list of ${count} pattern${count === 1 ? "" : "s"}`;
  }
  switch (detection.layout) {
    case "lora":
      return `LoRA${because}`;
    case "diffusers":
      return `diffusers layout${because}${prefix}: the official rule applies`;
    default:
      return `unknown model${because}${prefix}: the official rule applies`;
  }
}
