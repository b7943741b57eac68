/** The real headers, and how many layers each tier must quantize. */

import type { Detection } from "../../src/presets/preset.ts";

/** The truth about one header. */
export interface Expected {
  readonly family: string | null;
  readonly layout: Detection["layout"];
  readonly prefix: string;
  /** Layers quantized in the balanced tier. */
  readonly balanced: number;
  /** Layers quantized in the conservative tier. */
  readonly conservative: number;
}

const native = (
  family: string,
  balanced: number,
  conservative: number,
  prefix = "",
): Expected => ({ family, layout: "native", prefix, balanced, conservative });

const diffusers = (balanced: number, conservative: number): Expected => ({
  family: null,
  layout: "diffusers",
  prefix: "",
  balanced,
  conservative,
});

const LORA: Expected = {
  family: null,
  layout: "lora",
  prefix: "",
  balanced: 0,
  conservative: 0,
};

const DIFFUSION = "model.diffusion_model.";
const LLM = "te_llama_qwen_gemma_mistral";

/** By header name. The reason of each balanced number stands above it. */
export const EXPECTED: Readonly<Record<string, Expected>> = {
  // All 19 * 10 + 38 * 3 block linears: the 304 Q8_0 tensors of a public GGUF. Conservative also keeps
  // txt_attn (19 * 2) and every modulation (19 * 2 + 38).
  "flux1-dev": native("flux1", 304, 190),
  "flux1-dev-int8-convrot-community": native("flux1", 304, 190),
  "flux1-dev-fp8-scaled-old-prefixed": native("flux1", 304, 190, DIFFUSION),
  // All block linears: 5 * 8 + 20 * 2, 8 * 8 + 48 * 2, 8 * 8 + 24 * 2. Conservative keeps txt_attn.
  "flux2-klein-4b": native("flux2", 80, 70),
  "flux2-dev": native("flux2", 160, 144),
  "flux2-dev-fp8mixed": native("flux2", 160, 144),
  "flux2-klein-9b-int8-community-scalar": native("flux2", 112, 96),
  // All block linears, 19 * 8 + 38 * 2: Chroma has no modulation layers to keep.
  "chroma1-hd": native("chroma", 228, 228),
  // The official 202 minus adaLN_modulation of 30 layers and 2 noise refiners. Conservative also keeps
  // the refiners (4 * 5) and the first and the last three layers (4 * 5).
  "z-image-turbo": native("z_image", 170, 130),
  "z-image-turbo-aio-prefixed": native("z_image", 170, 130, DIFFUSION),
  "z-image-turbo-int8-convrot-official": native("z_image", 170, 130),
  // All block linears: 28 * (8 of attention, 2 of the MLP, 6 of modulation). Conservative keeps the
  // modulation and the first and the last block.
  "cosmos-predict2-2b-t2i": native("cosmos_predict2", 448, 260, "net."),
  // As many as in the official file: 32 * 6.
  "qwen-image-2.1-int8-convrot-official": native("qwen_image21", 192, 192),
  // All block linears, 60 * 14, img_mod.1 and txt_mod.1 among them, as in the official files.
  // Conservative keeps img_mod.1.
  "qwen-image": native("qwen_image", 840, 780),
  // All block linears: 40 * 10 (with image attention 40 * 12), 30 * 10. The FP8 files went further and
  // took the six layers outside the blocks too.
  "wan2.2-t2v-14b-fp16": native("wan", 400, 400),
  "wan2.2-t2v-14b-fp8-scaled-official": native("wan", 400, 400),
  "wan2.2-i2v-14b-fp16": native("wan", 400, 400),
  "wan2.2-i2v-14b-fp8-scaled-official": native("wan", 400, 400),
  "wan2.1-i2v-14b-480p-fp16": native("wan", 480, 480),
  "wan2.1-t2v-1.3b": native("wan", 300, 300),
  "wan2.2-ti2v-5b-fp16": native("wan", 300, 300),
  // All block linears: 28 * 10, 48 * 10.
  "ltxv-2b-0.9-prefixed": native("ltxv", 280, 280, DIFFUSION),
  "ltxv-13b-0.9.7-prefixed": native("ltxv", 480, 480, DIFFUSION),
  // 48 * (6 * 5 + 4), the gates among them as in the official FP8 file; the connectors stay. In the
  // conservative tier 44 * (6 * 4 + 4): blocks 2 to 45 as there, without the gates.
  "ltx-2.3-22b-aio-dit": native("ltxav", 1632, 1232, DIFFUSION),
  // The 54 double blocks (10 linears each, 14 with q, k and v apart); the token refiner in txt_in
  // stays. Conservative keeps img_mod and txt_mod.
  "hunyuanvideo-1.5-720p-t2v-fp16": native("hunyuan_video", 540, 432),
  "hunyuanvideo-1.5-tencent-original": native("hunyuan_video", 756, 648),
  // 743 linears minus time_embed and label_emb (4), emb_layers (17), and proj_in and proj_out (22).
  "sdxl-unet-fp16": native("sdxl", 700, 700),
  "sdxl-base-1.0-aio": native("sdxl", 700, 700, DIFFUSION),
  // All block linears: 37 * 10 + 7; with attn2 in 13 blocks 23 * 10 + 7 + 13 * 2.
  "sd3.5-large-aio": native("sd3", 377, 377, DIFFUSION),
  "sd3.5-medium-dit": native("sd3", 263, 263, DIFFUSION),
  // 178 minus adaLN_modulation of 26 layers and 2 noise refiners; conservative: minus 4 refiners * 5.
  "lumina-image-2.0": native("lumina2", 150, 130),
  // All block linears: 24 * 7.
  "t5xxl-fp16": native("te_t5", 168, 168),
  "t5xxl-fp8-e4m3fn-scaled": native("te_t5", 168, 168),
  "umt5-xxl-fp16": native("te_t5", 168, 168),
  "umt5-xxl-fp8-e4m3fn-scaled-official": native("te_t5", 168, 168),
  // All linears of the language model, layers * 7. Conservative keeps the first and the last layer.
  "qwen3-4b-te": native(LLM, 252, 238),
  "mistral-3-small-flux2-bf16": native(LLM, 210, 196),
  "mistral-3-small-flux2-fp8-official": native(LLM, 210, 196),
  "gemma3-12b-te-textpart": native(LLM, 336, 322),
  // 28 * 7: the visual tower stays.
  "qwen2.5-vl-7b-bf16": native(LLM, 196, 182),
  // Attention, 24 * 4; the routers stay. Conservative keeps the first and the last layer.
  "gpt-oss-20b-te": native("te_gpt_oss", 96, 88, "model."),
  // The following are generated from ComfyUI's own classes (scripts/comfy_headers.py).
  // Text blocks 2 * 6, visual blocks 32 * 10. Conservative: without text blocks, first and last block.
  "kandinsky5-lite-t2v": native("kandinsky5", 332, 300),
  // 10 blocks with weights of video and text apart, 22 that share them: 10 * 10 + 22 * 5.
  "seedvr2-3b": native("seedvr2", 210, 195),
  // 36 * 8, all apart. Conservative: without first and last block.
  "seedvr2-7b": native("seedvr2", 288, 272),
  // Decoder 24 * 11, lyric encoder 8 * 7. Conservative: 22 * 11.
  "ace-step-1.5": native("ace_step15", 320, 242),
  // Double blocks 16 * 27, single 32 * 20, experts among them. Conservative: without 48 modulations, and
  // first and last block of both (2 * 26 + 2 * 19).
  "hidream-i1": native("hidream_i1", 1072, 934),
  // 32 * 8 in layers, 2 * 8 + 2 * 8 + 2 * 7 in refiners. Conservative: 32 * 7, no modulation, no refiner.
  "omnigen2": native("omnigen2", 302, 224),
  // 30 * 8 and 42 * 8. Conservative: without both modulations, first and last block.
  "cogvideox-2b": native("cogvideox", 240, 168),
  "cogvideox-1.5-5b": native("cogvideox", 336, 240),
  // 20 * 8. Conservative: 18 * 6, without txt_attn.
  "joyimage": native("joyimage", 160, 108),
  // 12 * 14. Conservative: without img_mod and txt_mod.
  "mage-flow": native("mage_flow", 168, 144),
  // 50 * 4, as in the official file but for its adaln_proj. Conservative: without 2 blocks at both ends.
  "minimax-h3": native("minimax_h3", 200, 184),
  // The same layers, as in the published INT8 file: 932 tensors are 532 here and 2 for each of 200.
  "minimax-h3-pruned": native("minimax_h3", 200, 184),
  // Blocks 2 to 45 of 48, 34 each, gates of attention included: the official selection, 1,496 linears.
  "ltx-2.5-av": native("ltxav25", 1496, 1232),
  // Experts one by one, as published: 48 * (4 + 128 * 3). Conservative: without first and last layer.
  "qwen3-30b-a3b-te": native("te_qwen3_moe", 18624, 17848),
  // ComfyUI has no class for the following two: the script builds them after their published code.
  // Video and audio 10 each and 8 between them, 32 times; text blocks 4 * 6. Conservative: 30 * 28.
  "kandinsky6-lite": native("kandinsky6", 920, 840),
  // Both halves of 42 layers, 7 each. Conservative: the half that understands, without first and last layer.
  "sensenova-u1.5-8b": native("sensenova_u1", 588, 280),
  // No keep-list of another layout applies: the official rule, in the conservative tier without the
  // first and last block of each large stack.
  "flux1-dev-diffusers-layout": diffusers(456, 418),
  "z-image-turbo-diffusers-layout": diffusers(270, 254),
  // Nothing of a LoRA is quantized unless asked for.
  "lora-flux1-kohya": LORA,
  "lora-flux1-kohya-te1": LORA,
  "lora-flux1-peft-diffusers": LORA,
  "lora-qwen-image-peft": LORA,
  "lora-qwen-image-comfy-prefixed": LORA,
  "lora-qwen-image-lightning-downup": LORA,
};
