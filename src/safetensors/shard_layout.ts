/**
 * An output in one file or several. All its files lie one after the other in one space of addresses, so
 * whoever writes to it needs to know nothing of files: an address says file and offset. Pure.
 */

import { layerPrefix } from "../core/layer_name.ts";
import { byteLength } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { layoutTensors, type PlacedTensor } from "./layout.ts";

/** One file of an output. */
export interface OutputPart {
  /** Its first bytes: length and JSON. */
  readonly header: Uint8Array;
  /** Address of its first byte: the sizes of the parts before. */
  readonly startBytes: number;
  /** Size of the whole file. */
  readonly totalBytes: number;
  /** Names of its tensors, in file order. */
  readonly names: readonly string[];
}

/** A whole output before any of its data is known. */
export interface OutputLayout {
  /** One or more. */
  readonly parts: readonly OutputPart[];
  /** All tensors in the order of their addresses; `offsetBytes` is an address. */
  readonly entries: readonly PlacedTensor[];
  /** Size of all files. */
  readonly totalBytes: number;
}

/** How an output is cut into files. */
export interface ShardOptions {
  /** No file is larger, unless a single layer is; null: one file. */
  readonly shardBytes: number | null;
}

/** Bytes of JSON around: an upper bound. */
const ENTRY_BYTES = 2 * 17 + `:{"dtype":"F8_E8M0","shape":[],"data_offsets":[,]},`.length;

/**
 * Lays out an output. Tensors whose names differ only after the last dot (weight, scales, marker, bias) go
 * into one file; files are filled in the order given.
 *
 * @param metadata the `__metadata__` map, which every file gets; null for none.
 * @throws RangeError if a name is taken twice or reserved, or a size overflows.
 */
export function layoutOutput(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>> | null,
  { shardBytes }: ShardOptions,
): OutputLayout {
  const shards = shardBytes === null ? [tensors] : cut(tensors, metadata, shardBytes);
  const parts: OutputPart[] = [];
  const entries: PlacedTensor[] = [];
  // The header of one file refuses names that occur twice.
  const names = shards.length === 1 ? null : new Set<string>();
  let startBytes = 0;
  for (const shard of shards) {
    const layout = layoutTensors(shard, metadata);
    for (const entry of layout.entries) {
      if (names?.has(entry.name)) {
        throw new RangeError(`Cannot lay out tensor ${JSON.stringify(entry.name)} twice`);
      }
      names?.add(entry.name);
      entries.push(
        startBytes === 0 ? entry : { ...entry, offsetBytes: startBytes + entry.offsetBytes },
      );
    }
    parts.push({
      header: layout.header,
      startBytes,
      totalBytes: layout.totalBytes,
      names: layout.entries.map(({ name }) => name),
    });
    startBytes += layout.totalBytes;
  }
  return { parts, entries, totalBytes: startBytes };
}

/** Fills one shard after the other with whole layers. */
function cut(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>> | null,
  shardBytes: number,
): TensorInfo[][] {
  // Length, braces, padding, and the metadata with its name.
  const emptyBytes = 8 + 2 + 8 + (metadata === null ? 0 : jsonBytes(metadata) + 20);
  const layers = new Map<string, { tensors: TensorInfo[]; bytes: number }>();
  for (const tensor of tensors) {
    const key = layerPrefix(tensor.name);
    const layer = layers.get(key) ?? { tensors: [], bytes: 0 };
    layer.tensors.push(tensor);
    layer.bytes += fileBytesOf(tensor);
    layers.set(key, layer);
  }
  const shards: TensorInfo[][] = [];
  let room = 0;
  for (const layer of layers.values()) {
    if (shards.length === 0 || layer.bytes > room) {
      shards.push([]);
      room = shardBytes - emptyBytes;
    }
    shards.at(-1)!.push(...layer.tensors);
    room -= layer.bytes;
  }
  return shards.length === 0 ? [[]] : shards;
}

/** Bytes that a tensor takes in a file, at most: its data and its entry in the header. */
function fileBytesOf({ name, dtype, shape }: TensorInfo): number {
  return (byteLength(dtype, shape) ?? Infinity) + jsonBytes(name) + jsonBytes(shape) + ENTRY_BYTES;
}

function jsonBytes(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

/**
 * Returns the index of shards as Hugging Face's libraries write it: `model.safetensors.index.json`.
 *
 * @param fileNames one per part.
 */
export function encodeIndex(layout: OutputLayout, fileNames: readonly string[]): Uint8Array {
  const files = layout.parts.flatMap(({ names }, part) =>
    names.map((name): [string, string] => [name, fileNames[part]!])
  );
  files.sort(([a], [b]) => (a < b ? -1 : 1));
  const dataBytes = layout.entries.reduce((sum, entry) => sum + entry.byteLength, 0);
  // Object literals would treat "__proto__" as the prototype.
  const index = {
    metadata: { total_size: dataBytes },
    weight_map: Object.fromEntries(files),
  };
  return new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`);
}

/** The files of an output under their names. */
export interface OutputNames {
  /** One per part. */
  readonly files: readonly string[];
  /** Path of the index; null if there is one file. */
  readonly index: string | null;
  /** File to open to read the output: the index, or the one file. */
  readonly main: string;
}

/**
 * Returns the names of an output of `count` files: one keeps its name, several are
 * `model-00001-of-00003.safetensors` and so on, with their index `model.safetensors.index.json`.
 *
 * @param path `model.safetensors`, or the index.
 */
export function outputNames(path: string, count: number): OutputNames {
  const file = path.replace(/(\.safetensors)\.index\.json$/, "$1");
  if (count === 1) return { files: [file], index: null, main: file };
  const stem = file.replace(/\.safetensors$/, "");
  const number = (value: number) => String(value).padStart(5, "0");
  const files = Array.from(
    { length: count },
    (_, i) => `${stem}-${number(i + 1)}-of-${number(count)}.safetensors`,
  );
  const index = `${stem}.safetensors.index.json`;
  return { files, index, main: index };
}
