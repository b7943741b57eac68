/** T5 encoders (T5 XXL, UMT5, mT5, ByT5, Pile-T5) as ComfyUI runs them. */

import {
  countBlocks,
  type EncoderBlock,
  type EncoderGraph,
  linearStep,
  rmsNorm,
  type Shapes,
} from "./encoder_graph.ts";

const EPS = 1e-6;

/** Returns the graph of the T5 encoder under `prefix`; null: there is none. */
export function t5Graph(shapes: Shapes, prefix: string): EncoderGraph | null {
  const root = `${prefix}encoder.`;
  const first = `${root}block.0.layer.0.SelfAttention.`;
  const heads = shapes.get(`${first}relative_attention_bias.weight`)?.[1];
  const [inner = 0, width = 0] = shapes.get(`${first}q.weight`) ?? [];
  if (heads === undefined || width === 0) return null;
  const tokens = [`${prefix}shared.weight`, `${root}embed_tokens.weight`]
    .find((name) => shapes.has(name)) ?? `${prefix}shared.weight`;
  const count = countBlocks(shapes, (i) => `${root}block.${i}.layer.0.SelfAttention.q.weight`);
  return {
    title: "T5",
    width,
    vocabulary: shapes.get(tokens)?.[0] ?? 0,
    mostTokens: null,
    embedding: { tokens, scale: 1, positions: null, types: null, norm: null },
    blocks: Array.from(
      { length: count },
      (_, i) =>
        t5Block(shapes, { block: `${root}block.${i}.`, first, heads, headSize: inner / heads }),
    ),
  };
}

function t5Block(
  shapes: Shapes,
  { block, first, heads, headSize }: {
    block: string;
    first: string;
    heads: number;
    headSize: number;
  },
): EncoderBlock {
  const attention = `${block}layer.0.SelfAttention.`, dense = `${block}layer.1.DenseReluDense.`;
  // UMT5 has a table in every block, the others share that of the first.
  const own = `${attention}relative_attention_bias.weight`;
  const isGated = shapes.has(`${dense}wi_1.weight`);
  return {
    attention: {
      ...{ heads, keyHeads: heads, headSize },
      q: linearStep(shapes, `${attention}q`),
      k: linearStep(shapes, `${attention}k`),
      v: linearStep(shapes, `${attention}v`),
      o: linearStep(shapes, `${attention}o`),
      ...{ qNorm: null, kNorm: null, rope: null, isCausal: false, window: null },
      scale: 1,
      relativeBias: shapes.has(own) ? own : `${first}relative_attention_bias.weight`,
    },
    attentionNorms: before(`${block}layer.0.layer_norm`),
    mlp: {
      activation: isGated ? "geluTanh" : "relu",
      gate: isGated ? linearStep(shapes, `${dense}wi_0`) : null,
      up: linearStep(shapes, `${dense}${isGated ? "wi_1" : "wi"}`),
      down: linearStep(shapes, `${dense}wo`),
    },
    mlpNorms: before(`${block}layer.1.layer_norm`),
  };
}

function before(norm: string) {
  return { before: rmsNorm(norm, EPS), inside: null, after: null };
}
