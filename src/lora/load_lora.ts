/** The pairs of a LoRA file with their values, for programs that use this project as a library. */

import { UnsupportedError } from "../core/errors.ts";
import { withAdapterConfig } from "../safetensors/adapter_config.ts";
import { UnifiedSafetensorsLoader } from "../safetensors/loader.ts";
import { decodeFloats } from "./decode_floats.ts";
import type { LoraModule } from "./lora_module.ts";
import type { LoraConfig } from "./merge.ts";
import { checkLora, parseLora } from "./parse_lora.ts";
import { type DeltaSource, readAlpha, readFinite } from "./prepare_delta.ts";

/** A matrix with its sizes. */
export interface LoraMatrix {
  /** f32, row-major. */
  readonly data: Float32Array;
  /** Rows of the matrix. */
  readonly rows: number;
  /** Columns of the matrix. */
  readonly cols: number;
}

/** One layer's pair, as `mergeLoraIntoWeight` takes it. */
export interface LoraForMerging extends LoraConfig {
  /** The rank if the file names no alpha. */
  readonly alpha: number;
  /** Rows of the weight it belongs to; convolutions flattened. */
  readonly rows: number;
  /** Columns of that weight. */
  readonly cols: number;
}

/**
 * Returns the input side (A, `[rank, cols]`) of every pair of a LoRA file, by the layer's name in the
 * file: the directions that matter to it, as calibration takes them.
 *
 * @param path a LoRA file.
 * @throws FormatError if it breaks a rule of its format, holds no pairs, or has a value that is not
 *   finite; UnsupportedError if it has layers of another kind than `B · A`.
 */
export function loadLoraTensors(path: string): Map<string, LoraMatrix> {
  return readPairs(path, (module, source) => {
    const data = readFinite(module, "down", source);
    return { data, rows: module.rank!, cols: data.length / module.rank! };
  });
}

/**
 * Returns every pair of a LoRA file with its rank and alpha, by the layer's name in the file. What the
 * names mean in a model is not looked at: `planMerge` does that.
 *
 * @param path a LoRA file.
 * @throws as {@link loadLoraTensors}; UnsupportedError also for DoRA, whose norms need the weight.
 */
export function loadLoraForMerging(path: string): Map<string, LoraForMerging> {
  return readPairs(path, (module, source) => {
    if (module.dora) throw otherKind(path, module);
    const rank = module.rank!;
    const alpha = readAlpha(module, source) ?? rank;
    return {
      loraA: readFinite(module, "down", source),
      loraB: readFinite(module, "up", source),
      rank,
      // The factor is alpha / rank to whoever takes the pair; alpha / sqrt(rank) is put in its terms.
      alpha: alpha * (module.rankStabilized && module.alpha.kind !== "rank" ? Math.sqrt(rank) : 1),
      rows: module.rows,
      cols: module.cols,
    };
  });
}

function readPairs<T>(
  path: string,
  make: (module: LoraModule, source: DeltaSource) => T,
): Map<string, T> {
  using loader = new UnifiedSafetensorsLoader(path, { lowMemory: true });
  const tensors = loader.keys().map((name) => ({
    name,
    dtype: loader.getDtype(name),
    shape: loader.getShape(name),
  }));
  const lora = parseLora(tensors, withAdapterConfig(path, loader.metadata()));
  checkLora(path, lora);
  const source: DeltaSource = {
    path,
    read: (tensor) => decodeFloats(loader.getTensor(tensor.name)),
  };
  const pairs = new Map<string, T>();
  for (const module of lora.modules) {
    if (module.kind !== "lora" || module.tensors.mid !== undefined) throw otherKind(path, module);
    pairs.set(module.key, make(module, source));
  }
  return pairs;
}

function otherKind(path: string, module: LoraModule): UnsupportedError {
  const kind = module.dora
    ? "DoRA"
    : { lora: "LoCon", loha: "LoHa", lokr: "LoKr", diff: "a plain change" }[module.kind];
  return new UnsupportedError(
    `Cannot read LoRA ${JSON.stringify(path)} as pairs: layer ${
      JSON.stringify(module.key)
    } is ${kind}; a conversion merges it, this function does not`,
  );
}
