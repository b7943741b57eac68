/**
 * What a text encoder computes, as data: tensors by name, and the numbers that files do not hold. All
 * families are stacks of the same block: attention, then an MLP, each with norms around it. `find_encoder.ts`
 * makes the graph of a model from the names and shapes of its tensors.
 */

/** Shapes of all tensors of a model by name. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** A norm over the channels of a token. */
export interface NormStep {
  /** `rms`: x / rms(x); `layer`: (x - mean) / deviation. */
  readonly kind: "rms" | "layer";
  /** Name of its weight. */
  readonly weight: string;
  /** Name of its bias; null: none. */
  readonly bias: string | null;
  readonly eps: number;
  /** It multiplies by 1 + weight (Gemma). */
  readonly addsOne: boolean;
}

/** A linear layer: names of its weight `[N, K]` and bias `[N]`. */
export interface LinearStep {
  readonly weight: string;
  readonly bias: string | null;
}

/** Rotary positions: pairs (i, i + half) are turned by position / theta^(2i / size) / scale. */
export interface RopeStep {
  readonly theta: number;
  readonly scale: number;
}

/** Attention of a block. */
export interface AttentionStep {
  readonly heads: number;
  /** Heads of keys and values: each serves `heads / keyHeads` heads. */
  readonly keyHeads: number;
  readonly headSize: number;
  readonly q: LinearStep;
  readonly k: LinearStep;
  readonly v: LinearStep;
  readonly o: LinearStep;
  /** Norms over the channels of each head; null: none. */
  readonly qNorm: NormStep | null;
  readonly kNorm: NormStep | null;
  readonly rope: RopeStep | null;
  /** Factor of products before the softmax. */
  readonly scale: number;
  /** Tokens see themselves and those before only. */
  readonly isCausal: boolean;
  /** Tokens see that many tokens, themselves included; null: all. */
  readonly window: number | null;
  /** Name of the table `[buckets, heads]` that is added by relative position (T5); null: none. */
  readonly relativeBias: string | null;
}

/** The function between the layers of an MLP. */
export type Activation = "silu" | "geluTanh" | "gelu" | "quickGelu" | "relu";

/** MLP of a block: down(act(gate(x)) * up(x)), or down(act(up(x))). */
export interface MlpStep {
  readonly activation: Activation;
  readonly gate: LinearStep | null;
  readonly up: LinearStep;
  readonly down: LinearStep;
}

/** Norms around attention or MLP: x = after(x + inside(f(before(x)))). Null: none. */
export interface NormsAround {
  readonly before: NormStep | null;
  readonly inside: NormStep | null;
  readonly after: NormStep | null;
}

/** One block. */
export interface EncoderBlock {
  readonly attention: AttentionStep;
  readonly attentionNorms: NormsAround;
  readonly mlp: MlpStep;
  readonly mlpNorms: NormsAround;
}

/** How tokens become vectors: the sum of what is there, times `scale`, then a norm. */
export interface EmbeddingStep {
  /** Name of the table `[vocabulary, D]`. */
  readonly tokens: string;
  readonly scale: number;
  /** Name of the table `[positions, D]`; null: none. */
  readonly positions: string | null;
  /** Name of a table whose first row is added to every token; null: none. */
  readonly types: string | null;
  readonly norm: NormStep | null;
}

/** A text encoder. */
export interface EncoderGraph {
  /** Family and size, for people: `Qwen3 4B`. */
  readonly title: string;
  readonly width: number;
  readonly vocabulary: number;
  /** Most tokens of a text that it can take; null: any number. */
  readonly mostTokens: number | null;
  readonly embedding: EmbeddingStep;
  readonly blocks: readonly EncoderBlock[];
}

/** Returns the linear layers of a block, in the order in which they run, with those that share inputs together. */
export function linearGroups({ attention, mlp }: EncoderBlock): readonly (readonly LinearStep[])[] {
  const inner = mlp.gate === null ? [mlp.up] : [mlp.gate, mlp.up];
  return [[attention.q, attention.k, attention.v], [attention.o], inner, [mlp.down]];
}

/** Returns the linear layer of this name; its bias, if there is one. */
export function linearStep(shapes: Shapes, layer: string): LinearStep {
  const bias = `${layer}.bias`;
  return { weight: `${layer}.weight`, bias: shapes.has(bias) ? bias : null };
}

/** Returns an RMS norm of this name. */
export function rmsNorm(layer: string, eps: number, addsOne = false): NormStep {
  return { kind: "rms", weight: `${layer}.weight`, bias: null, eps, addsOne };
}

/** Returns a layer norm of this name. */
export function layerNorm(layer: string, eps: number): NormStep {
  const [weight, bias] = [`${layer}.weight`, `${layer}.bias`];
  return { kind: "layer", weight, bias, eps, addsOne: false };
}

/** Returns how many blocks there are: the first number from 0 on whose tensor is missing. */
export function countBlocks(shapes: Shapes, nameOf: (index: number) => string): number {
  let count = 0;
  while (shapes.has(nameOf(count))) count++;
  return count;
}
