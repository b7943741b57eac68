/** BERT, and the text towers of CLIP: learned positions, layer norms with biases. */

import {
  countBlocks,
  type EncoderGraph,
  layerNorm,
  linearStep,
  type Shapes,
} from "./encoder_graph.ts";

/** Returns the graph of the BERT model under `prefix`; null: there is none. */
export function bertGraph(shapes: Shapes, prefix: string): EncoderGraph | null {
  const embeddings = `${prefix}embeddings.`, layers = `${prefix}encoder.layer.`;
  const [width = 0] = shapes.get(`${layers}0.attention.self.query.weight`) ?? [];
  const [vocabulary = 0] = shapes.get(`${embeddings}word_embeddings.weight`) ?? [];
  if (width === 0) return null;
  const count = countBlocks(shapes, (i) => `${layers}${i}.attention.self.query.weight`);
  const heads = bertHeads(width);
  const norm = (name: string) => layerNorm(name, 1e-12);
  return {
    title: "BERT",
    ...{ width, vocabulary },
    mostTokens: shapes.get(`${embeddings}position_embeddings.weight`)?.[0] ?? null,
    embedding: {
      tokens: `${embeddings}word_embeddings.weight`,
      scale: 1,
      positions: `${embeddings}position_embeddings.weight`,
      types: `${embeddings}token_type_embeddings.weight`,
      norm: norm(`${embeddings}LayerNorm`),
    },
    blocks: Array.from({ length: count }, (_, i) => {
      const block = `${layers}${i}.`, self = `${block}attention.self.`;
      return {
        attention: {
          ...{ heads, keyHeads: heads, headSize: width / heads },
          q: linearStep(shapes, `${self}query`),
          k: linearStep(shapes, `${self}key`),
          v: linearStep(shapes, `${self}value`),
          o: linearStep(shapes, `${block}attention.output.dense`),
          ...{ qNorm: null, kNorm: null, rope: null, isCausal: false, window: null },
          scale: 1 / Math.sqrt(width / heads),
          relativeBias: null,
        },
        attentionNorms: {
          ...{ before: null, inside: null },
          after: norm(`${block}attention.output.LayerNorm`),
        },
        mlp: {
          activation: "gelu",
          gate: null,
          up: linearStep(shapes, `${block}intermediate.dense`),
          down: linearStep(shapes, `${block}output.dense`),
        },
        mlpNorms: { before: null, inside: null, after: norm(`${block}output.LayerNorm`) },
      };
    }),
  };
}

/** Files do not say it: 12 heads in the small ones (MiniLM, base), of 64 channels from there on. */
function bertHeads(width: number): number {
  return width <= 768 ? 12 : width / 64;
}

/** Returns the graph of the text tower of CLIP under `prefix`; null: there is none. */
export function clipGraph(shapes: Shapes, prefix: string): EncoderGraph | null {
  const root = `${prefix}text_model.`, layers = `${root}encoder.layers.`;
  const [width = 0] = shapes.get(`${layers}0.self_attn.q_proj.weight`) ?? [];
  if (width === 0 || !shapes.has(`${layers}0.layer_norm1.weight`)) return null;
  const embeddings = `${root}embeddings.`, positions = `${embeddings}position_embedding.weight`;
  const [vocabulary = 0] = shapes.get(`${embeddings}token_embedding.weight`) ?? [];
  const count = countBlocks(shapes, (i) => `${layers}${i}.self_attn.q_proj.weight`);
  const heads = width / 64, norm = (name: string) => layerNorm(name, 1e-5);
  return {
    title: "CLIP",
    ...{ width, vocabulary },
    mostTokens: shapes.get(positions)?.[0] ?? null,
    embedding: {
      tokens: `${embeddings}token_embedding.weight`,
      ...{ scale: 1, positions, types: null, norm: null },
    },
    blocks: Array.from({ length: count }, (_, i) => {
      const block = `${layers}${i}.`, self = `${block}self_attn.`;
      return {
        attention: {
          ...{ heads, keyHeads: heads, headSize: width / heads },
          q: linearStep(shapes, `${self}q_proj`),
          k: linearStep(shapes, `${self}k_proj`),
          v: linearStep(shapes, `${self}v_proj`),
          o: linearStep(shapes, `${self}out_proj`),
          ...{ qNorm: null, kNorm: null, rope: null, isCausal: true, window: null },
          scale: 1 / Math.sqrt(width / heads),
          relativeBias: null,
        },
        attentionNorms: { before: norm(`${block}layer_norm1`), inside: null, after: null },
        mlp: {
          // CLIP-L; CLIP-H and CLIP-G are wider.
          activation: width === 768 ? "quickGelu" : "gelu",
          gate: null,
          up: linearStep(shapes, `${block}mlp.fc1`),
          down: linearStep(shapes, `${block}mlp.fc2`),
        },
        mlpNorms: { before: norm(`${block}layer_norm2`), inside: null, after: null },
      };
    }),
  };
}
