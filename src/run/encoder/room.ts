/** Memory of a run of texts: sizes stand here once, for what is planned and what is taken. */

import {
  type EncoderBlock,
  type EncoderGraph,
  linearGroups,
  type RopeStep,
} from "../../presets/encoders/encoder_graph.ts";
import type { EncodeTask } from "../tasks.ts";
import type { Scratch } from "../scratch.ts";
import type { RotaryTable } from "./positions.ts";
import { type TextBand, textBands } from "./text_bands.ts";

type Floats = Pick<Scratch, "f32" | "f64">;

/** Sizes that decide on memory. */
export interface EncoderSizes {
  readonly bands: readonly TextBand[];
  /** Tokens of the largest band, and of the longest text. */
  readonly bandTokens: number;
  readonly longest: number;
  /** Outputs of queries, of keys, and of the first layers of the MLP, of the largest block. */
  readonly queries: number;
  readonly keys: number;
  readonly inner: number;
}

/** Returns the sizes of a task. */
export function encoderSizes({ graph, lengths, tensors }: EncodeTask): EncoderSizes {
  const bands = textBands(lengths), { blocks } = graph;
  const most = (of: (block: EncoderBlock) => number) =>
    blocks.reduce((most, block) => Math.max(most, of(block)), 0);
  return {
    bands,
    bandTokens: bands.reduce((most, { tokens }) => Math.max(most, tokens), 0),
    longest: lengths.reduce((most, length) => Math.max(most, length), 0),
    queries: most(({ attention }) => tensors[attention.q.weight]!.rows),
    keys: most(({ attention }) => tensors[attention.k.weight]!.rows),
    inner: most(({ mlp }) => tensors[mlp.up.weight]!.rows),
  };
}

/** What is known of the inputs of the linear layers of a block that share them. */
export interface ChannelSums {
  /** Largest magnitude of every channel, f32. */
  readonly max: Float32Array;
  /** Sum of every channel. */
  readonly sum: Float64Array;
}

/** Memory that all workers see for the whole run. */
export interface RunRoom {
  /** The hidden states of all tokens, f32 `[T, D]`. */
  readonly hidden: Float32Array;
  /** f32 `[tokens of a band, D]`. */
  readonly x: Float32Array;
  /** By rotary positions, as JSON. */
  readonly rotary: ReadonlyMap<string, RotaryTable>;
  /** In the order of `linearGroups`, as wide as the widest of a block. */
  readonly sums: readonly ChannelSums[];
}

/** The key of a table. */
export function rotaryKey({ theta, scale }: RopeStep): string {
  return JSON.stringify([theta, scale]);
}

/** Takes what the whole run needs. */
export function roomForTexts(shared: Floats, task: EncodeTask, sizes: EncoderSizes): RunRoom {
  const { graph, tokens, tensors } = task;
  const hidden = shared.f32(tokens.length * graph.width);
  const x = shared.f32(sizes.bandTokens * graph.width);
  const rotary = new Map<string, RotaryTable>();
  for (const { attention: { rope, headSize } } of graph.blocks) {
    if (rope === null || rotary.has(rotaryKey(rope))) continue;
    const count = sizes.longest * headSize / 2;
    rotary.set(rotaryKey(rope), { cos: shared.f32(count), sin: shared.f32(count) });
  }
  const sums = inputWidths(graph, tensors).map((cols) => ({
    max: shared.f32(cols),
    sum: shared.f64(cols),
  }));
  return { hidden, x, rotary, sums };
}

/** Columns of the inputs of each group of layers, in the widest block. */
function inputWidths({ blocks }: EncoderGraph, tensors: EncodeTask["tensors"]): number[] {
  return [0, 1, 2, 3].map((group) =>
    blocks.reduce(
      (most, block) => Math.max(most, tensors[linearGroups(block)[group]![0]!.weight]!.cols),
      0,
    )
  );
}

/** Takes queries, keys, values and what attention makes of them, for one band. */
export function roomForAttention(shared: Floats, { bandTokens, queries, keys }: EncoderSizes) {
  return {
    q: shared.f32(bandTokens * queries),
    k: shared.f32(bandTokens * keys),
    v: shared.f32(bandTokens * keys),
    mixed: shared.f32(bandTokens * queries),
  };
}

/** Takes the outputs of the first layers of the MLP, for one band. */
export function roomForMlp(shared: Floats, { bandTokens, inner }: EncoderSizes) {
  return { gate: shared.f32(bandTokens * inner), up: shared.f32(bandTokens * inner) };
}
