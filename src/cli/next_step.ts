/** The next step after a conversion: the folder of the file in ComfyUI, and the node that loads it. Pure. */

import { isStockFormat, versionsFor } from "../formats/written_format.ts";
import type { Plan } from "../plan/plan.ts";
import { isComponent } from "../presets/names.ts";

/** A folder of ComfyUI and the node that loads from it. */
export interface ModelPlace {
  readonly folder: string;
  readonly node: string;
}

const DIFFUSION: ModelPlace = { folder: "models/diffusion_models", node: "Load Diffusion Model" };
const TEXT_ENCODER: ModelPlace = { folder: "models/text_encoders", node: "Load CLIP" };
const CHECKPOINT: ModelPlace = { folder: "models/checkpoints", node: "Load Checkpoint" };
const VAE: ModelPlace = { folder: "models/vae", node: "Load VAE" };

/** Returns where ComfyUI looks for what the plan writes; null if its kind is not known. */
export function placeOf({ detection, tensors }: Plan): ModelPlace | null {
  const { family } = detection;
  if (family === null) return null;
  if (family.startsWith("te_")) return TEXT_ENCODER;
  if (family.endsWith("_vae")) return VAE;
  return tensors.some(({ source }) => isComponent(source.name)) ? CHECKPOINT : DIFFUSION;
}

/** Returns the sentence that says what to do with the output. */
export function nextStep(plan: Plan, output: string): string {
  const foreign = plan.tensors.map(({ scheme }) => scheme?.format ?? null)
    .find((format) => format !== null && !isStockFormat(format));
  if (foreign !== undefined) {
    return `load it with the nodes of convert_to_quant: stock ComfyUI does not read ${foreign}`;
  }
  if (plan.detection.layout === "lora") return "dequantize it before you load it in ComfyUI";
  if (plan.parts.length > 1) return "ComfyUI's own nodes load one file: without --shard-size";
  const place = placeOf(plan);
  const versions = versionsFor(plan.tensors.flatMap(({ scheme }) => scheme ?? []));
  const needed = versions === null ? "" : ` (${versions})`;
  if (place === null) return `put it beside the original: the same node loads it${needed}`;
  const isThere = output.replaceAll("\\", "/").includes(`${place.folder}/`);
  const move = isThere ? "" : `copy it to ComfyUI/${place.folder}, `;
  return `${move}load it with the node "${place.node}"${needed}`;
}
