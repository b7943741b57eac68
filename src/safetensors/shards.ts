/**
 * Models in several files: the index that says which file holds which tensor, and the headers of those
 * files as one model. Pure; `reader.ts` does the reading.
 */

import * as v from "valibot";
import { FormatError } from "../core/errors.ts";
import { isJsonObject, JsonError, parseJsonStrict } from "../core/json.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { Header } from "./header.ts";
import type { ModelSource } from "./model_source.ts";

/** Content of an index. */
export interface ShardIndex {
  /** Tensor name -> name of the file that holds it. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** The files, each once, in name order. */
  readonly files: readonly string[];
}

/** Origin of the headers given to {@link mergeShards}. */
export interface ShardPlaces {
  /** The path as the user named it. */
  readonly path: string;
  readonly indexPath: string;
  readonly index: ShardIndex;
  /** Paths of the shards, in the order of `index.files`. */
  readonly paths: readonly string[];
  /** Size of all shards together. */
  readonly inputBytes: number;
}

/** Endings of indexes: `model.safetensors.index.json`, and of a variant `model.safetensors.index.fp16.json`. */
const INDEX_NAME = /\.safetensors\.index(\.[\w-]+)?\.json$/;

/** Whether a file is an index of shards, by its name. */
export function isIndexName(name: string): boolean {
  return INDEX_NAME.test(name);
}

const REDOWNLOAD = "index and shards are not of one model: download them again together";

/** Other members (`metadata.total_size`) are not read: writers disagree on what they count. */
const IndexSchema = v.object({
  // Not v.record: that passes over names such as "constructor".
  weight_map: v.custom<Record<string, string>>(
    (map) => isJsonObject(map) && Object.values(map).every((file) => typeof file === "string"),
  ),
});

/**
 * Returns what an index file says.
 *
 * @param bytes the whole file.
 * @param path for error messages.
 * @throws FormatError if it is not strict JSON with a `weight_map` of names to file names.
 */
export function parseIndex(bytes: Uint8Array, path: string): ShardIndex {
  const checked = v.safeParse(IndexSchema, parseIndexJson(bytes, path));
  if (!checked.success) {
    throw new FormatError('it has no "weight_map" of tensor names to file names', {
      path,
      hint: "it is not an index of shards, or a damaged one",
    });
  }
  const weightMap = new Map(Object.entries(checked.output.weight_map));
  const files = [...new Set(weightMap.values())].sort();
  for (const file of files) checkFileName(file, path);
  if (files.length === 0) {
    throw new FormatError('its "weight_map" is empty', { path, hint: REDOWNLOAD });
  }
  return { weightMap, files };
}

/**
 * Returns the shards of a model as one. Of metadata keys that several shards have, the first shard's
 * value counts.
 *
 * @param headers of the shards, in the order of `index.files`, with `SourceTensor.file` counting them.
 * @throws FormatError if index and shards disagree on a tensor, or two shards hold the same.
 */
export function mergeShards(headers: readonly Header[], places: ShardPlaces): ModelSource {
  const { path, indexPath, index, paths, inputBytes } = places;
  const tensors = headers.flatMap((header) => [...header.tensors]);
  const seen = new Map<string, SourceTensor>();
  for (const tensor of tensors) {
    const at = { path: paths[tensor.file]!, tensor: tensor.name, offsetBytes: tensor.offsetBytes };
    const twin = seen.get(tensor.name);
    if (twin !== undefined) {
      throw new FormatError(`${JSON.stringify(paths[twin.file])} holds this tensor too`, {
        ...at,
        hint: REDOWNLOAD,
      });
    }
    seen.set(tensor.name, tensor);
    const named = index.weightMap.get(tensor.name);
    if (named === undefined) {
      throw new FormatError(`the index ${JSON.stringify(indexPath)} does not name this tensor`, {
        ...at,
        hint: REDOWNLOAD,
      });
    }
    if (named !== index.files[tensor.file]) {
      throw new FormatError(
        `the index ${JSON.stringify(indexPath)} says that ${
          JSON.stringify(named)
        } holds this tensor`,
        { ...at, hint: REDOWNLOAD },
      );
    }
  }
  for (const [tensor, file] of index.weightMap) {
    if (!seen.has(tensor)) {
      throw new FormatError(`the shard ${JSON.stringify(file)} does not hold this tensor`, {
        path: indexPath,
        tensor,
        hint: REDOWNLOAD,
      });
    }
  }
  return { path, paths, tensors, metadata: mergeMetadata(headers), inputBytes };
}

function parseIndexJson(bytes: Uint8Array, path: string): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError("the index is not valid UTF-8", { path, hint: REDOWNLOAD, cause });
  }
  try {
    return parseJsonStrict(text);
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw new FormatError(`the index is not valid JSON: ${cause.message}`, {
      path,
      hint: REDOWNLOAD,
      cause,
    });
  }
}

/** Refuses names that could point out of the index's folder. */
function checkFileName(name: string, path: string): void {
  const plain = name !== "" && name !== "." && name !== ".." && !/[/\\:\0]/.test(name);
  if (plain && name.endsWith(".safetensors")) return;
  throw new FormatError(
    plain
      ? `it names the shard ${JSON.stringify(name)}, which is not a .safetensors file`
      : `it names the shard ${JSON.stringify(name)}, which is not a plain file name`,
    { path, hint: "shards lie beside their index" },
  );
}

function mergeMetadata(headers: readonly Header[]): ModelSource["metadata"] {
  const merged = new Map<string, string>();
  for (const { metadata } of headers) {
    for (const [key, value] of Object.entries(metadata ?? {})) {
      if (!merged.has(key)) merged.set(key, value);
    }
  }
  // fromEntries defines own properties, whatever their names.
  const some = headers.some(({ metadata }) => metadata !== null);
  return some ? Object.freeze(Object.fromEntries(merged)) : null;
}
