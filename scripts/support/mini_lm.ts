/**
 * all-MiniLM-L6-v2, a real text encoder (Reimers and Gurevych 2019, Wang et al. 2020), in plain code: six
 * layers of BERT, 36 linear layers, embeddings as the mean over tokens. Matrix products are those of the
 * CPU backend, all else is written out here.
 */

import fs from "node:fs";
import path from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { withOwnMemory } from "../../src/library/own_memory.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import { PlainFile } from "./plain_file.ts";

const LAYERS = 6, HEADS = 12, WIDTH = 384, HEAD = WIDTH / HEADS;
/** Tokens of a text that count. */
const TOKENS_MAX = 64;
const SEPARATOR = 102;

/** The names of the linear layers, in the order in which they run. */
export const LINEAR_LAYERS: readonly string[] = Array.from(
  { length: LAYERS },
  (_, i) =>
    [
      "attention.self.query",
      "attention.self.key",
      "attention.self.value",
      "attention.output.dense",
      "intermediate.dense",
      "output.dense",
    ].map((name) => `encoder.layer.${i}.${name}`),
).flat();

/** Weights and biases of one linear layer. */
export interface LinearWeights {
  readonly rows: number;
  readonly cols: number;
  /** f32 `[rows, cols]`. */
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

/** Computes a linear layer: inputs f32 `[tokens, K]`, outputs f32 `[tokens, N]`. */
export type Linear = (name: string, x: Float32Array) => Float32Array;

/** Returns `x Wᵀ + b`. */
export function applyLinear(x: Float32Array, { rows, cols, weight, bias }: LinearWeights) {
  const tokens = x.length / cols;
  return withOwnMemory(4 * (cols * rows + tokens * (cols + rows)) + 4096, ({ linalg, memory }) => {
    const a = memory.f32(x.length), b = memory.f32(weight.length), y = memory.f32(tokens * rows);
    a.set(x);
    for (let r = 0; r < rows; r++) {
      for (let k = 0; k < cols; k++) b[k * rows + r] = weight[r * cols + k]!;
    }
    linalg.gemmF32(matrix(y, tokens, rows), matrix(a, tokens, cols), matrix(b, cols, rows), "set");
    return y.map((value, i) => value + bias[i % rows]!);
  });
}

/** Reads the linear layers of a file whose weights are F32. */
export function linearLayers(file: string): Map<string, LinearWeights> {
  using model = new PlainFile(file);
  return new Map(LINEAR_LAYERS.map((name) => {
    const { rows, cols, values: weight } = model.all(`${name}.weight`);
    const { values: bias } = model.all(`${name}.bias`);
    return [name, { rows, cols, weight, bias }];
  }));
}

/** The model, but for its linear layers, which a caller computes. */
export class MiniLm {
  readonly #tokenizer: Tokenizer;
  readonly #tensors: ReadonlyMap<string, Float32Array>;

  /** `folder` holds `model.safetensors` and `tokenizer.json`. */
  constructor(folder: string) {
    const text = fs.readFileSync(path.join(folder, "tokenizer.json"), "utf8");
    this.#tokenizer = new Tokenizer(JSON.parse(text), {});
    using model = new PlainFile(path.join(folder, "model.safetensors"));
    const linear = new Set(LINEAR_LAYERS.flatMap((name) => [`${name}.weight`, `${name}.bias`]));
    const names = [...model.entries.keys()].filter((name) =>
      !linear.has(name) && !name.includes("pooler") && !name.endsWith("position_ids")
    );
    this.#tensors = new Map(names.map((name) => [name, model.all(name).values]));
  }

  /** Returns the tokens of a text, at most 64. */
  tokens(text: string): number[] {
    const { ids } = this.#tokenizer.encode(text);
    return ids.length <= TOKENS_MAX ? ids : [...ids.slice(0, TOKENS_MAX - 1), SEPARATOR];
  }

  /** Returns the embeddings of texts, each of length 1. Texts run side by side: one product per layer. */
  embed(texts: readonly (readonly number[])[], linear: Linear): Float32Array[] {
    const ids = texts.flat();
    const word = this.#tensor("embeddings.word_embeddings.weight");
    const position = this.#tensor("embeddings.position_embeddings.weight");
    const type = this.#tensor("embeddings.token_type_embeddings.weight");
    const places = texts.flatMap((text) => text.map((_, i) => i));
    let x: Float32Array = new Float32Array(ids.length * WIDTH);
    ids.forEach((id, t) => {
      for (let k = 0; k < WIDTH; k++) {
        x[t * WIDTH + k] = word[id * WIDTH + k]! + position[places[t]! * WIDTH + k]! + type[k]!;
      }
    });
    x = this.#normed(x, "embeddings.LayerNorm");
    for (let i = 0; i < LAYERS; i++) {
      const at = `encoder.layer.${i}`;
      const [q, k, v] = ["query", "key", "value"].map((name) =>
        linear(`${at}.attention.self.${name}`, x)
      );
      const mixed = attention(texts.map((text) => text.length), q!, k!, v!);
      const attended = linear(`${at}.attention.output.dense`, mixed);
      x = this.#normed(
        x.map((value, j) => value + attended[j]!),
        `${at}.attention.output.LayerNorm`,
      );
      const wide = linear(`${at}.intermediate.dense`, x).map(gelu);
      const narrow = linear(`${at}.output.dense`, wide);
      x = this.#normed(x.map((value, j) => value + narrow[j]!), `${at}.output.LayerNorm`);
    }
    let first = 0;
    return texts.map(({ length }) => {
      const mean = new Float32Array(WIDTH);
      for (let t = first; t < first + length; t++) {
        for (let k = 0; k < WIDTH; k++) mean[k]! += x[t * WIDTH + k]!;
      }
      first += length;
      const norm = Math.hypot(...mean);
      return mean.map((value) => value / norm);
    });
  }

  #tensor(name: string): Float32Array {
    const found = this.#tensors.get(name);
    if (found === undefined) throw new Error(`The model has no tensor ${name}`);
    return found;
  }

  #normed(x: Float32Array, name: string): Float32Array {
    const weight = this.#tensor(`${name}.weight`), bias = this.#tensor(`${name}.bias`);
    const out = new Float32Array(x.length);
    for (let from = 0; from < x.length; from += WIDTH) {
      const row = x.subarray(from, from + WIDTH);
      const mean = row.reduce((sum, value) => sum + value, 0) / WIDTH;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / WIDTH;
      const scale = 1 / Math.sqrt(variance + 1e-12);
      for (let k = 0; k < WIDTH; k++) {
        out[from + k] = (row[k]! - mean) * scale * weight[k]! + bias[k]!;
      }
    }
    return out;
  }
}

/** Attention of each text by itself; q, k, v f32 `[tokens, 384]`. */
function attention(
  lengths: readonly number[],
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
): Float32Array {
  const out = new Float32Array(q.length);
  let first = 0;
  for (const length of lengths) {
    for (let head = 0; head < HEADS; head++) {
      const at = (t: number) => (first + t) * WIDTH + head * HEAD;
      for (let t = 0; t < length; t++) {
        const scores = new Float64Array(length);
        for (let s = 0; s < length; s++) {
          let sum = 0;
          for (let j = 0; j < HEAD; j++) sum += q[at(t) + j]! * k[at(s) + j]!;
          scores[s] = sum / Math.sqrt(HEAD);
        }
        const most = Math.max(...scores);
        let total = 0;
        for (let s = 0; s < length; s++) total += scores[s] = Math.exp(scores[s]! - most);
        for (let s = 0; s < length; s++) {
          for (let j = 0; j < HEAD; j++) out[at(t) + j]! += scores[s]! / total * v[at(s) + j]!;
        }
      }
    }
    first += length;
  }
  return out;
}

/** x Φ(x), with erf by Abramowitz and Stegun 7.1.26, |error| < 1.5e-7. */
function gelu(x: number): number {
  const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
  const polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 +
                t * 1.061405429))));
  const erf = 1 - polynomial * Math.exp(-z * z);
  return 0.5 * x * (1 + Math.sign(x) * erf);
}
