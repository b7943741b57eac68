/** The flags that choose layers: by model, as documented, and by pattern. */

import { OUTPUTS } from "../../formats/outputs.ts";
import { BOOL, type Flag, oneOf, section } from "./flag.ts";

export const FILTER_FLAGS: readonly Flag[] = Object.freeze([
  ...section({ page: "filters", theme: "Text encoders" }, [
    { name: "t5xxl", type: BOOL, help: "T5-XXL: drop the decoder, keep norms and embeddings" },
    { name: "mistral", type: BOOL, help: "Mistral: keep norms and embeddings" },
    { name: "visual", type: BOOL, help: "visual encoder: keep the MLP layers" },
  ]),
  ...section({ page: "filters", theme: "Diffusion models" }, [
    { name: "flux2", type: BOOL, help: "FLUX.2: keep modulation, guidance, time and final layers" },
    {
      name: "distillation_large",
      type: BOOL,
      help: "Chroma, distilled: keep distilled guidance, final, img_in and txt_in",
    },
    {
      name: "distillation_small",
      type: BOOL,
      help: "Chroma, distilled: keep distilled guidance only",
    },
    {
      name: "nerf_large",
      type: BOOL,
      help: "NeRF: keep nerf blocks, distilled guidance and txt_in",
    },
    { name: "nerf_small", type: BOOL, help: "NeRF: keep nerf blocks and distilled guidance" },
    { name: "radiance", type: BOOL, help: "Radiance: keep img_in_patch and the final nerf layer" },
    { name: "lora", type: BOOL, help: "LoRA: quantize its matrices, keep alpha and scale" },
  ]),
  ...section({ page: "filters", theme: "Video models" }, [
    { name: "wan", type: BOOL, help: "Wan: keep embeddings, encoders and the head" },
    { name: "hunyuan", type: BOOL, help: "Hunyuan Video 1.5: keep norms and vision_in" },
  ]),
  ...section({ page: "filters", theme: "Image models" }, [
    { name: "qwen", type: BOOL, help: "Qwen Image: keep added norms and time_text_embed" },
    { name: "zimage", type: BOOL, help: "Z-Image: keep cap_embedder, norms, x_embedder, final" },
    {
      name: "zimage_refiner",
      type: BOOL,
      help: "Z-Image refiner: keep the context and noise refiners",
    },
  ]),
  ...section({ page: "filters", theme: "Layers by pattern" }, [
    {
      name: "custom-layers",
      option: "customLayers",
      type: { kind: "string", place: "REGEX" },
      help: "layers that get the --custom-... settings",
    },
    {
      name: "custom-type",
      option: "customType",
      type: oneOf(...OUTPUTS),
      help: "type of the custom layers",
    },
    {
      name: "custom-block-size",
      option: "customBlockSize",
      type: { kind: "int", min: 1, max: 65536 },
      help: "block size of the custom layers",
    },
    {
      name: "custom-scaling-mode",
      option: "customScalingMode",
      type: oneOf("tensor", "axis", "row", "block"),
      help: "scaling of the custom layers",
    },
    {
      name: "custom-simple",
      option: "customSimple",
      type: BOOL,
      help: "plain round to nearest for the custom layers",
    },
    {
      name: "custom-heur",
      option: "customHeur",
      type: BOOL,
      help: "keep custom layers that their settings do not fit",
    },
    {
      name: "fallback",
      option: "fallback",
      type: oneOf(...OUTPUTS),
      help: "type of the layers that would be kept",
    },
    {
      name: "fallback-block-size",
      option: "fallbackBlockSize",
      type: { kind: "int", min: 1, max: 65536 },
      help: "block size of the fallback layers",
    },
    {
      name: "fallback-simple",
      option: "fallbackSimple",
      type: BOOL,
      help: "plain round to nearest for the fallback layers",
    },
  ]),
  ...section({ page: "filters", theme: "Layer configuration" }, [
    {
      name: "layer-config",
      type: { kind: "string", place: "FILE" },
      help: "JSON of patterns and settings; --dry-run create-template writes one to edit",
    },
    {
      name: "fullmatch",
      option: "fullmatch",
      type: BOOL,
      help: "its patterns must match the whole layer name",
    },
  ]),
]);
