/** Finds the text encoder of a file: by names and shapes alone, as `fold_graph.ts` finds its norms. Pure. */

import { UnsupportedError } from "../../core/errors.ts";
import { bertGraph, clipGraph } from "./bert.ts";
import type { EncoderConfig } from "./encoder_config.ts";
import { type EncoderGraph, linearGroups, type NormStep, type Shapes } from "./encoder_graph.ts";
import { llamaGraph, type UnknownSize } from "./llama.ts";
import { t5Graph } from "./t5.ts";

/** The families that are known, for messages. */
const ENCODER_FAMILIES =
  "T5 and UMT5, Llama 3, Mistral Small 3, Ministral 3, Qwen2 and Qwen2.5, Qwen3, Gemma 2, Gemma 3, " +
  "CLIP and BERT";

type Found = EncoderGraph | UnknownSize | null;

/** First tensors of an encoder; what stands before is its prefix. */
const FIRST: readonly {
  readonly tensor: RegExp;
  readonly graph: (shapes: Shapes, prefix: string, config: () => EncoderConfig | null) => Found;
}[] = [
  { tensor: /^(.*?)encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight$/, graph: t5Graph },
  { tensor: /^(.*?)encoder\.layer\.0\.attention\.self\.query\.weight$/, graph: bertGraph },
  { tensor: /^(.*?)text_model\.encoder\.layers\.0\.self_attn\.q_proj\.weight$/, graph: clipGraph },
  { tensor: /^(.*?)layers\.0\.self_attn\.q_proj\.weight$/, graph: llamaGraph },
];

/** Tensors of blocks that are none of those above, though their names are alike. */
const OTHER_BLOCKS = [
  ["layer_scalar", "Gemma 4"],
  ["linear_attn.in_proj_qkv.weight", "Qwen3.5 and other models with linear attention"],
  ["mlp.experts.gate_up_proj.weight", "mixtures of experts"],
  ["mlp.gate.weight", "mixtures of experts"],
  ["mlp.experts.0.up_proj.weight", "mixtures of experts"],
] as const;

/**
 * Returns the text encoder of a model.
 *
 * @param options.path of the model, for messages.
 * @param options.config returns the numbers of its `config.json`, for sizes that are not known; null: there is
 *   none.
 * @throws UnsupportedError naming what is there and what is known, if there is no encoder, or more than one.
 */
export function findEncoder(
  shapes: Shapes,
  { path, config }: { readonly path: string; readonly config: () => EncoderConfig | null },
): EncoderGraph {
  const fail = (why: string): never => {
    throw new UnsupportedError(`Cannot run the texts through ${JSON.stringify(path)}: ${why}`);
  };
  const others = OTHER_BLOCKS.find(([part]) =>
    [...shapes.keys()].some((name) => name.includes(`.layers.0.${part}`))
  );
  if (others !== undefined) {
    return fail(`${others[1]} are not supported; supported are ${ENCODER_FAMILIES}`);
  }
  const found = new Map<string, EncoderGraph>();
  for (const name of shapes.keys()) {
    for (const { tensor, graph } of FIRST) {
      const prefix = tensor.exec(name)?.[1];
      if (prefix === undefined || prefix.includes("vision") || prefix.includes("visual")) continue;
      const made = graph(shapes, prefix, config);
      if (made === null) continue;
      if ("unknownSize" in made) {
        return fail(
          `it is a ${made.unknownSize}, a size that is not known; put the model's config.json with ` +
            "rope_theta, rms_norm_eps and num_attention_heads into its folder",
        );
      }
      found.set(prefix, made);
      break;
    }
  }
  const [first, ...more] = found;
  if (first === undefined) {
    return fail(`it is no text encoder that is supported; supported are ${ENCODER_FAMILIES}`);
  }
  if (more.length > 0) {
    const all = [...found].map(([prefix, { title }]) => `${title} under ${JSON.stringify(prefix)}`)
      .join(", ");
    return fail(`it holds ${found.size} text encoders: ${all}; take the file of one of them`);
  }
  const missing = missingTensor(first[1], shapes);
  if (missing !== null) fail(missing);
  return first[1];
}

/** What a graph reads that is missing, or has a shape that does not fit; null: nothing. */
function missingTensor({ title, width, embedding, blocks }: EncoderGraph, shapes: Shapes) {
  const wanted: [name: string, cols: number | null][] = [[embedding.tokens, width]];
  const addNorm = (norm: NormStep | null, size: number) => {
    if (norm === null) return;
    wanted.push([norm.weight, size]);
    if (norm.bias !== null) wanted.push([norm.bias, size]);
  };
  for (const name of [embedding.positions, embedding.types]) {
    if (name !== null) wanted.push([name, width]);
  }
  addNorm(embedding.norm, width);
  for (const block of blocks) {
    const { attention, attentionNorms, mlp, mlpNorms } = block;
    const inner = shapes.get(mlp.up.weight)?.[0] ?? 0;
    const cols = [width, attention.heads * attention.headSize, width, inner];
    linearGroups(block).forEach((group, i) => {
      for (const { weight } of group) wanted.push([weight, cols[i]!]);
    });
    for (const { before, inside, after } of [attentionNorms, mlpNorms]) {
      for (const norm of [before, inside, after]) addNorm(norm, width);
    }
    addNorm(attention.qNorm, attention.headSize);
    addNorm(attention.kNorm, attention.headSize);
    if (attention.relativeBias !== null) wanted.push([attention.relativeBias, attention.heads]);
  }
  for (const [name, cols] of wanted) {
    const shape = shapes.get(name);
    if (shape === undefined) return `it lacks the tensor ${JSON.stringify(name)} of ${title}`;
    if (shape.at(-1) !== cols) {
      return `tensor ${JSON.stringify(name)} has shape [${
        shape.join(", ")
      }], ${title} needs ${cols} ` +
        "columns there";
    }
  }
  return null;
}
