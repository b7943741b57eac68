/** All presets by name: the model families, and the documented flags. */

import { UsageError } from "../core/errors.ts";
import { DOCUMENTED_NAMES } from "./documented.ts";
import { ACE_STEP15 } from "./families/ace_step15.ts";
import { ANIMA } from "./families/anima.ts";
import { BOOGU } from "./families/boogu.ts";
import { CHROMA } from "./families/chroma.ts";
import { CHROMA_RADIANCE } from "./families/chroma_radiance.ts";
import { COGVIDEOX } from "./families/cogvideox.ts";
import { COSMOS_PREDICT2 } from "./families/cosmos_predict2.ts";
import { ERNIE_IMAGE } from "./families/ernie_image.ts";
import { FLUX1 } from "./families/flux1.ts";
import { FLUX2 } from "./families/flux2.ts";
import { HIDREAM_I1 } from "./families/hidream_i1.ts";
import { HIDREAM_O1 } from "./families/hidream_o1.ts";
import { HUNYUAN_IMAGE3 } from "./families/hunyuan_image3.ts";
import { HUNYUAN_VIDEO } from "./families/hunyuan_video.ts";
import { IDEOGRAM4 } from "./families/ideogram4.ts";
import { JOYIMAGE } from "./families/joyimage.ts";
import { KANDINSKY5 } from "./families/kandinsky5.ts";
import { KANDINSKY6 } from "./families/kandinsky6.ts";
import { KREA2 } from "./families/krea2.ts";
import { LENS } from "./families/lens.ts";
import { LTXAV } from "./families/ltxav.ts";
import { LTXAV25 } from "./families/ltxav25.ts";
import { LTXV } from "./families/ltxv.ts";
import { LUMINA2 } from "./families/lumina2.ts";
import { MAGE_FLOW } from "./families/mage_flow.ts";
import { MINIMAX_H3 } from "./families/minimax_h3.ts";
import { MINIMAX_H3_VAE } from "./families/minimax_h3_vae.ts";
import { OMNIGEN2 } from "./families/omnigen2.ts";
import { PRISM } from "./families/prism.ts";
import { QWEN_IMAGE } from "./families/qwen_image.ts";
import { QWEN_IMAGE21 } from "./families/qwen_image21.ts";
import { SD3 } from "./families/sd3.ts";
import { SDXL } from "./families/sdxl.ts";
import { SEEDVR2 } from "./families/seedvr2.ts";
import { SENSENOVA_U1 } from "./families/sensenova_u1.ts";
import { TE_CLIP_L_G } from "./families/te_clip_l_g.ts";
import { TE_GPT_OSS } from "./families/te_gpt_oss.ts";
import { TE_LLAMA_QWEN_GEMMA_MISTRAL } from "./families/te_llama_qwen_gemma_mistral.ts";
import { TE_MING } from "./families/te_ming.ts";
import { TE_QWEN3_MOE } from "./families/te_qwen3_moe.ts";
import { TE_T5 } from "./families/te_t5.ts";
import { WAN } from "./families/wan.ts";
import { Z_IMAGE } from "./families/z_image.ts";
import type { Detection, Family, PresetChoice } from "./preset.ts";
import { suggestion } from "./suggest.ts";

/** The families in detection order: of two look-alikes the more particular one comes first. */
const FAMILIES: readonly Family[] = Object.freeze([
  SD3,
  HUNYUAN_VIDEO,
  CHROMA_RADIANCE,
  CHROMA,
  FLUX2,
  FLUX1,
  JOYIMAGE,
  KANDINSKY6,
  KANDINSKY5,
  SENSENOVA_U1,
  PRISM,
  MINIMAX_H3,
  MINIMAX_H3_VAE,
  LTXAV25,
  LTXAV,
  LTXV,
  Z_IMAGE,
  LUMINA2,
  WAN,
  SEEDVR2,
  HIDREAM_O1,
  HIDREAM_I1,
  ANIMA,
  COSMOS_PREDICT2,
  COGVIDEOX,
  BOOGU,
  OMNIGEN2,
  LENS,
  QWEN_IMAGE21,
  MAGE_FLOW,
  QWEN_IMAGE,
  IDEOGRAM4,
  KREA2,
  ERNIE_IMAGE,
  ACE_STEP15,
  HUNYUAN_IMAGE3,
  SDXL,
  TE_T5,
  TE_GPT_OSS,
  TE_QWEN3_MOE,
  TE_MING,
  TE_LLAMA_QWEN_GEMMA_MISTRAL,
  TE_CLIP_L_G,
]);

/** Returns all families, in the order in which detection tries them. */
export function listFamilies(): readonly Family[] {
  return FAMILIES;
}

/**
 * Returns the family with this id. `-` counts as `_`.
 *
 * Throws `UsageError` naming the nearest id if there is none.
 */
export function familyById(id: string): Family {
  const wanted = normalized(id);
  const family = FAMILIES.find((candidate) => candidate.id === wanted);
  if (family === undefined) {
    throw new UsageError(
      `Unknown model family ${JSON.stringify(id)}${suggestion(wanted, FAMILIES.map((f) => f.id))}`,
    );
  }
  return family;
}

/**
 * Returns what `--preset NAME` asks for: `auto`, `none`, a family id or a documented preset. A name
 * that is both (`flux2`, `wan`) is the family; the flag `--flux2` is the documented preset.
 *
 * Throws `UsageError` naming the nearest name if there is none.
 */
export function presetByName(name: string): PresetChoice {
  const wanted = normalized(name);
  if (wanted === "auto") return { kind: "auto" };
  if (wanted === "none") return { kind: "none" };
  if (FAMILIES.some((family) => family.id === wanted)) return { kind: "family", id: wanted };
  if (DOCUMENTED_NAMES.includes(wanted)) return { kind: "documented", names: [wanted] };
  const known = ["auto", "none", ...FAMILIES.map((family) => family.id), ...DOCUMENTED_NAMES];
  throw new UsageError(`Unknown preset ${JSON.stringify(name)}${suggestion(wanted, known)}`);
}

/**
 * Returns why a model must not be converted, as a sentence without its subject, or null: stock ComfyUI
 * could not load the result.
 */
export function refusalOf(detection: Detection, preset: PresetChoice): string | null {
  const id = preset.kind === "family" ? preset.id : detection.family;
  return id === null ? null : familyById(id).refuse ?? null;
}

function normalized(name: string): string {
  return name.toLowerCase().replaceAll("-", "_");
}
