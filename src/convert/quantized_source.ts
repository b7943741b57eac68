/** Quantized layers of the input: refused, or read as the weights it stands for (`--requantize`). */

import { AlreadyQuantizedError, UnsupportedError } from "../core/errors.ts";
import { layerName } from "../core/layer_name.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { isScaledFp8 } from "../formats/marker_reader.ts";
import { foundWords, isAlreadyQuantized } from "../formats/count_formats.ts";
import { type QuantizedLayer, readQuantizedModel } from "../formats/quant_layers.ts";
import {
  layersByWeight,
  logicalModel,
  logicalName,
  refuseUndecodable,
  shapesIn,
  tensorsByName,
} from "../formats/stored_matrix.ts";
import { refuseOddScales } from "../formats/verify_values.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { PlanInput } from "../plan/plan.ts";
import type { ReferenceLayer } from "../presets/like.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { openModel, TensorReader } from "../safetensors/reader.ts";

/** The input as plans see it. */
export interface QuantizedSource {
  /** Its tensors with the names and shapes of the weights that codes stand for. */
  readonly model: ModelSource;
  /** By the name of the weight. */
  readonly layers: ReadonlyMap<string, QuantizedLayer>;
  readonly requantized: PlanInput["requantized"];
  /** Tensors that say nothing and go. */
  readonly dropped: ReadonlySet<string>;
  readonly notes: readonly string[];
  /** Reads all scales and throws FormatError for the first layer with scales of zero, NaN and the like. */
  readonly refuseOddScales: () => void;
}

/**
 * Returns the input as plans see it.
 *
 * @throws AlreadyQuantizedError if it is quantized and `--requantize` is not given; UnsupportedError and
 *   FormatError naming a layer that cannot be decoded.
 */
export function readQuantizedSource(opened: ModelSource, options: ConvertOptions): QuantizedSource {
  using reader = new TensorReader(opened);
  const { preset } = options;
  const shapes = options.requantize && preset.kind === "like" ? shapesOf(preset.path) : undefined;
  const read = (tensor: Parameters<typeof reader.read>[0]) => reader.read(tensor);
  const { layers, emptyMarkers, notes } = readQuantizedModel(opened, read, { shapes });
  refuseUndecodable(opened, layers);
  const dropped = new Set(emptyMarkers);
  if (layers.length === 0) {
    const layers = new Map(), refuseOddScales = () => {};
    return { model: opened, layers, requantized: undefined, dropped, notes, refuseOddScales };
  }
  if (!options.requantize) {
    throw new AlreadyQuantizedError(
      `Cannot convert ${JSON.stringify(opened.path)}: it is already quantized (${
        foundWords(layers)
      }, ` +
        `the first ${
          JSON.stringify(layers[0]!.layer)
        }); use the original file, or \`--requantize\` to ` +
        "dequantize it first, which adds its errors to the new ones",
    );
  }
  const byName = tensorsByName(opened);
  const weights = new Map(layers.map((layer): [string, TensorInfo] => {
    const name = logicalName(layer)!, codes = byName.get(layer.weightName!)!;
    return [name, { name, dtype: "BF16", shape: layer.found?.shape ?? codes.shape }];
  }));
  const parts = new Set([
    ...layers.flatMap(({ partNames }) => partNames),
    ...opened.tensors.map(({ name }) => name).filter(isScaledFp8),
  ]);
  return {
    model: logicalModel(opened, layers),
    layers: layersByWeight(layers),
    requantized: { weights, parts },
    dropped,
    notes,
    refuseOddScales: () => {
      using values = new TensorReader(opened);
      refuseOddScales(opened, layers, (tensor) => values.read(tensor));
    },
  };
}

function shapesOf(path: string): ReadonlyMap<string, readonly number[]> {
  const model = openModel(path);
  using reader = new TensorReader(model);
  return shapesIn(model, (tensor) => reader.read(tensor));
}

/** The layers of a `--like` file, and what is to be said of them. */
export interface LikeReference {
  readonly layers: readonly ReferenceLayer[];
  readonly notes: readonly string[];
}

/**
 * Returns which layers a file quantizes, and how, as far as there is a recipe for it.
 *
 * @throws UnsupportedError if it is not quantized.
 */
export function likeReference(path: string): LikeReference {
  const model = openModel(path);
  using reader = new TensorReader(model);
  const { layers, quantized } = isAlreadyQuantized(model, (tensor) => reader.read(tensor));
  if (!quantized) {
    throw new UnsupportedError(
      `Cannot copy the layers of ${JSON.stringify(path)}: it is not quantized`,
    );
  }
  const foreign = new Map<string, number>();
  const reference = layers.map((layer): ReferenceLayer => {
    const { kind, found, tensors } = layer;
    const recipe = kind === null || found === null ? null : kind.recipe?.(tensors, found) ?? null;
    if (recipe === null && layer.weightName !== null) {
      const title = kind?.title ?? layer.format ?? "an unknown layout";
      foreign.set(title, (foreign.get(title) ?? 0) + 1);
    }
    const name = logicalName(layer);
    return { layer: name === null ? layer.layer : layerName(name), recipe };
  });
  const notes = [...foreign].map(([title, count]) =>
    `${count} ${count === 1 ? "layer" : "layers"} of the --like file ${
      count === 1 ? "is" : "are"
    } ` +
    `stored as ${title}: which layers is taken from it, how they are quantized from the options`
  );
  return { layers: reference, notes };
}
