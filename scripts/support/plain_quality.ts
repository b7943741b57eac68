/**
 * Scores converted files against their source with `plain_file.ts` and `plain_math.ts` alone: what is
 * read is what ComfyUI would read, and nothing of the product takes part.
 */

import { PlainFile, type Rows } from "./plain_file.ts";
import {
  type Codes,
  dequantized,
  type ErrorSums,
  errorSums,
  outputErrors,
  rotationGroup,
  roundToNearest,
  sqnrDb,
  syntheticActivations,
} from "./plain_math.ts";

/**
 * Rows of a layer that are looked at: each row has a scale of its own, so they stand for the rest. Many,
 * because a few outlier channels make up most of the activations: what the error of a layer's output
 * averages over is its rows.
 */
const SAMPLE_ROWS = 512;

/** Rows of activations for the output error. */
const TOKENS = 32;

/** The errors of one way to store one kind of layer. */
export interface Score {
  /** Mean over the layers of the kind. */
  readonly sqnrDb: number;
  /** |W - Ŵ| / |W|, over all layers of the kind. */
  readonly relativeError: number;
  /** |XWᵀ - Y| / |XWᵀ|, Y with activations and weights in int8: geometric mean over the layers. */
  readonly outputError: number;
}

/** The scores of one kind of layer. */
export interface KindScores {
  /** Layer name with `*` for the number of the block. */
  readonly kind: string;
  readonly layers: number;
  /** One per converted file, in the order given; then rotation + absmax rounding, computed here. */
  readonly scores: readonly Score[];
}

function evenly(total: number, count: number): number[] {
  const taken = Math.min(total, count);
  return Array.from({ length: taken }, (_, index) => Math.floor(index * total / taken));
}

/** Returns rows of a layer as `file` stores them. */
function storedCodes(file: PlainFile, layer: string, indices: readonly number[]): Codes {
  const marker = file.marker(layer);
  if (marker?.format !== "int8_tensorwise") {
    throw new Error(`Cannot score "${layer}": its format is ${marker?.format ?? "unmarked"}`);
  }
  const { rows, cols, values } = file.rows(`${layer}.weight`, indices);
  const perRow = (file.entry(`${layer}.weight_scale`).shape[0] ?? 1) > 1;
  const scales = file.rows(`${layer}.weight_scale`, perRow ? indices : indices.map(() => 0)).values;
  const group = marker.convrot === true ? marker.convrot_groupsize ?? 256 : 0;
  return { rows, cols, codes: values, scales, group };
}

function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

function score(weight: Rows, candidates: readonly Codes[]): ErrorSums[] {
  return candidates.map((codes) => errorSums(weight.values, dequantized(codes)));
}

/**
 * Returns the scores of every kind of layer that is quantized in all of `convertedPaths`.
 *
 * @param sourcePath the checkpoint they were made from.
 */
export function scoreFiles(sourcePath: string, convertedPaths: readonly string[]): KindScores[] {
  using source = new PlainFile(sourcePath);
  const files = convertedPaths.map((path) => new PlainFile(path));
  const activations = new Map<number, Rows>();
  const activationsFor = (cols: number): Rows => {
    const known = activations.get(cols) ?? syntheticActivations(TOKENS, cols);
    activations.set(cols, known);
    return known;
  };
  try {
    const kinds = new Map<string, string[]>();
    for (const name of source.entries.keys()) {
      const layer = name.slice(0, -".weight".length);
      if (!name.endsWith(".weight") || !files.every((file) => file.marker(layer) !== null)) {
        continue;
      }
      const kind = layer.replace(/\.\d+\./, ".*.");
      kinds.set(kind, [...kinds.get(kind) ?? [], layer]);
    }
    return [...kinds].map(([kind, layers]) => {
      const perLayer = layers.map((layer) => {
        const rowCount = source.entry(`${layer}.weight`).shape[0]!;
        const indices = evenly(rowCount, SAMPLE_ROWS);
        const weight = source.rows(`${layer}.weight`, indices);
        const candidates = [
          ...files.map((file) => storedCodes(file, layer, indices)),
          roundToNearest(weight, rotationGroup(weight.cols)),
        ];
        const activations = activationsFor(weight.cols);
        const outputs = outputErrors(activations, weight, candidates);
        return { sums: score(weight, candidates), outputs };
      });
      const scores = [...files, null].map((_, which): Score => {
        const sums = perLayer.map((layer) => layer.sums[which]!);
        const signal = sums.reduce((sum, one) => sum + one.signal, 0);
        const error = sums.reduce((sum, one) => sum + one.error, 0);
        return {
          sqnrDb: sums.reduce((sum, one) => sum + sqnrDb(one), 0) / sums.length,
          relativeError: Math.sqrt(error / signal),
          outputError: geometricMean(perLayer.map((layer) => layer.outputs[which]!)),
        };
      });
      return { kind, layers: layers.length, scores };
    });
  } finally {
    for (const file of files) file[Symbol.dispose]();
  }
}

/** Returns the scores over all kinds: means by layer, the geometric mean of the output errors. */
export function overall(kinds: readonly KindScores[], which: number): Score {
  const layers = kinds.reduce((sum, kind) => sum + kind.layers, 0);
  const mean = (value: (score: Score) => number): number =>
    kinds.reduce((sum, kind) => sum + kind.layers * value(kind.scores[which]!), 0) / layers;
  return {
    sqnrDb: mean((one) => one.sqnrDb),
    relativeError: Math.sqrt(mean((one) => one.relativeError ** 2)),
    outputError: Math.exp(mean((one) => Math.log(one.outputError))),
  };
}
