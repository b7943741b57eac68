/**
 * Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 2 and Gemma 3: blocks of the same names. What the tensors do
 * not show (bases of the rotary positions, sizes of heads) is as ComfyUI has it for the sizes that it knows;
 * for other sizes `config.json` must say it.
 */

import type { EncoderConfig } from "./encoder_config.ts";
import {
  countBlocks,
  type EncoderBlock,
  type EncoderGraph,
  linearStep,
  rmsNorm,
  type RopeStep,
  type Shapes,
} from "./encoder_graph.ts";

/** What tensors do not show. */
interface Numbers {
  readonly title: string;
  readonly headSize: number;
  readonly eps: number;
  readonly theta: number;
  /** Square of what products are divided by before the softmax; absent: the size of a head. */
  readonly queryScale?: number;
  /** Gemma 3: of the blocks that see all; others see a window. */
  readonly ropeScale?: number;
  readonly localTheta?: number;
  readonly window?: number;
  /** Every so many blocks one sees all. */
  readonly pattern?: number;
}

/** Blocks that are told apart by their tensors. */
export type LlamaKind = "gemma3" | "gemma2" | "qwen3" | "qwen2" | "llama";

/** Returns the kind of the blocks under `root`. */
function llamaKind(shapes: Shapes, root: string): LlamaKind {
  const block = `${root}layers.0.`, hasHeadNorms = shapes.has(`${block}self_attn.q_norm.weight`);
  if (shapes.has(`${block}pre_feedforward_layernorm.weight`)) {
    return hasHeadNorms ? "gemma3" : "gemma2";
  }
  if (hasHeadNorms) return "qwen3";
  return shapes.has(`${block}self_attn.q_proj.bias`) ? "qwen2" : "llama";
}

const GEMMA3 = { localTheta: 1e4, ropeScale: 8, window: 1024, pattern: 6 };

/** The sizes that are known, by kind: of any width, or of one. */
function knownNumbers(
  kind: LlamaKind,
  { width, vocabulary, headSize, isVision }: {
    width: number;
    vocabulary: number;
    headSize: number | undefined;
    isVision: boolean;
  },
): Numbers | null {
  switch (kind) {
    case "qwen3":
      return {
        ...{ title: isVision ? "Qwen3-VL" : "Qwen3", headSize: headSize!, eps: 1e-6 },
        theta: isVision ? 5e6 : 1e6,
      };
    case "qwen2":
      return { title: "Qwen2", headSize: width === 896 ? 64 : 128, eps: 1e-6, theta: 1e6 };
    case "gemma2":
      if (width !== 2304) return null;
      return { title: "Gemma 2", headSize: 256, eps: 1e-6, theta: 1e4 };
    case "gemma3":
      if (width !== 2560 && width !== 3840) return null;
      return { title: "Gemma 3", headSize: headSize!, eps: 1e-6, theta: 1e6, ...GEMMA3 };
    case "llama":
      if (width === 5120 && vocabulary === 131072) {
        return { title: "Mistral Small 3", headSize: 128, eps: 1e-5, theta: 1e9 };
      }
      if (width === 3072 && vocabulary === 131072) {
        return { title: "Ministral 3", headSize: 128, eps: 1e-5, theta: 1e6 };
      }
      if (width === 4096 && vocabulary >= 128000 && vocabulary < 130000) {
        return { title: "Llama 3", headSize: 128, eps: 1e-5, theta: 5e5 };
      }
      return null;
  }
}

const TITLES: Readonly<Record<LlamaKind, string>> = {
  gemma3: "Gemma 3",
  gemma2: "Gemma 2",
  qwen3: "Qwen3",
  qwen2: "Qwen2",
  llama: "Llama or Mistral",
};

/** Rotary positions that are plain, whatever a config calls them. */
const PLAIN_ROPES = ["default", "linear", "mrope"];

/** The numbers of a config; null: it does not say enough, or asks for what is not computed here. */
function configuredNumbers(
  kind: LlamaKind,
  config: EncoderConfig | null,
  width: number,
): Numbers | null {
  const { rope_theta: theta, num_attention_heads: heads, rms_norm_eps: eps } = config ?? {};
  if (config === null || theta === undefined || heads === undefined || eps === undefined) {
    return null;
  }
  if (config.hidden_size !== undefined && config.hidden_size !== width) return null;
  const { rope_scaling: scaling, query_pre_attn_scalar: queryScale } = config;
  if (!PLAIN_ROPES.includes(scaling?.rope_type ?? scaling?.type ?? "default")) return null;
  return {
    title: TITLES[kind],
    headSize: config.head_dim ?? width / heads,
    ...{ eps, theta },
    ropeScale: scaling?.factor ?? 1,
    ...(queryScale === undefined ? {} : { queryScale }),
    ...(kind !== "gemma3" ? {} : {
      localTheta: config.rope_local_base_freq ?? GEMMA3.localTheta,
      window: config.sliding_window ?? GEMMA3.window,
      pattern: config.sliding_window_pattern ?? GEMMA3.pattern,
    }),
  };
}

/** Returned for a model whose blocks are known and whose size is not. */
export interface UnknownSize {
  readonly unknownSize: string;
}

/** Returns the graph of the model whose blocks are under `root`; null: there is none. */
export function llamaGraph(
  shapes: Shapes,
  root: string,
  config: () => EncoderConfig | null,
): EncoderGraph | UnknownSize | null {
  const first = `${root}layers.0.self_attn.`;
  const [queries = 0, width = 0] = shapes.get(`${first}q_proj.weight`) ?? [];
  if (width === 0 || !shapes.has(`${root}layers.0.input_layernorm.weight`)) return null;
  const kind = llamaKind(shapes, root), tokens = `${root}embed_tokens.weight`;
  const [vocabulary = 0] = shapes.get(tokens) ?? [];
  const [headSize] = shapes.get(`${first}q_norm.weight`) ?? [];
  const isVision = [...shapes.keys()].some((name) => name.includes("deepstack_merger_list"));
  const numbers = knownNumbers(kind, { width, vocabulary, headSize, isVision }) ??
    configuredNumbers(kind, config(), width);
  if (numbers === null || queries % numbers.headSize !== 0) {
    return { unknownSize: `${TITLES[kind]} of width ${width} with ${vocabulary} tokens` };
  }
  const isGemma = kind === "gemma2" || kind === "gemma3";
  const count = countBlocks(shapes, (i) => `${root}layers.${i}.self_attn.q_proj.weight`);
  return {
    title: numbers.title,
    ...{ width, vocabulary },
    mostTokens: null,
    embedding: {
      tokens,
      scale: isGemma ? Math.sqrt(width) : 1,
      ...{ positions: null, types: null, norm: null },
    },
    blocks: Array.from(
      { length: count },
      (_, i) => llamaBlock(shapes, `${root}layers.${i}.`, { kind, numbers, index: i }),
    ),
  };
}

function llamaBlock(
  shapes: Shapes,
  block: string,
  { kind, numbers, index }: { kind: LlamaKind; numbers: Numbers; index: number },
): EncoderBlock {
  const { headSize, eps, queryScale = headSize } = numbers;
  const self = `${block}self_attn.`, mlp = `${block}mlp.`;
  const isGemma = kind === "gemma2" || kind === "gemma3";
  const norm = (name: string) => rmsNorm(`${block}${name}`, eps, isGemma);
  const headNorm = (name: string) =>
    kind === "qwen3" || kind === "gemma3" ? rmsNorm(`${self}${name}`, eps, isGemma) : null;
  const headsOf = (name: string) => (shapes.get(`${self}${name}.weight`)?.[0] ?? 0) / headSize;
  const { rope, window } = positionsOf(kind, numbers, index);
  return {
    attention: {
      ...{ heads: headsOf("q_proj"), keyHeads: headsOf("k_proj"), headSize },
      q: linearStep(shapes, `${self}q_proj`),
      k: linearStep(shapes, `${self}k_proj`),
      v: linearStep(shapes, `${self}v_proj`),
      o: linearStep(shapes, `${self}o_proj`),
      ...{ qNorm: headNorm("q_norm"), kNorm: headNorm("k_norm"), rope, window },
      ...{ isCausal: true, scale: 1 / Math.sqrt(queryScale), relativeBias: null },
    },
    attentionNorms: {
      before: norm("input_layernorm"),
      inside: isGemma ? norm("post_attention_layernorm") : null,
      after: null,
    },
    mlp: {
      activation: isGemma ? "geluTanh" : "silu",
      gate: linearStep(shapes, `${mlp}gate_proj`),
      up: linearStep(shapes, `${mlp}up_proj`),
      down: linearStep(shapes, `${mlp}down_proj`),
    },
    mlpNorms: {
      before: norm(isGemma ? "pre_feedforward_layernorm" : "post_attention_layernorm"),
      inside: isGemma ? norm("post_feedforward_layernorm") : null,
      after: null,
    },
  };
}

function positionsOf(
  kind: LlamaKind,
  { theta, ropeScale = 1, localTheta, window, pattern }: Numbers,
  index: number,
): { readonly rope: RopeStep; readonly window: number | null } {
  const seesAll = kind !== "gemma3" || (index + 1) % pattern! === 0;
  return seesAll
    ? { rope: { theta, scale: ropeScale }, window: null }
    : { rope: { theta: localTheta!, scale: 1 }, window: window! };
}
