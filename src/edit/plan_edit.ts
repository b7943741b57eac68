/**
 * The changes of an edit: keys of the layers' objects, tensors, and which of the two places that list
 * quantized layers is made anew from the other. Pure but for the markers, which the caller reads.
 */

import type { LayerPattern } from "../config/layer_pattern.ts";
import { UnsupportedError, UsageError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import {
  findQuantizedLayers,
  type QuantizedLayer,
  type ReadBytes,
} from "../formats/quant_layers.ts";
import { partName } from "../formats/layer_tensors.ts";
import { refuseAbsent, tensorsByName } from "../formats/stored_matrix.ts";
import {
  type LayerObject,
  type LayerObjects,
  listedLayers,
  objectsOf,
  sameObject,
  writeListed,
  writeMarker,
} from "./layer_objects.ts";
import type { Operation } from "./operation.ts";

/** Parameters of an edit. */
export interface EditOptions {
  /** Keys of the layers' objects, names of tensors, or `.part`: that tensor of every selected layer. */
  readonly removeKeys: readonly string[];
  /** Keys that every selected layer's objects get, in place of what they had. */
  readonly addKeys: ReadonlyMap<string, unknown>;
  /** The layers that are edited; null: all. Tensors that are named go whatever it says. */
  readonly filter: LayerPattern | null;
  /**
   * `true`: the metadata is made from the layers' tensors, `false`: it is removed, after the tensors
   * say what it says; null: it is edited if it is.
   */
  readonly metadata: boolean | null;
  /** Make the layers' tensors say what the metadata says. */
  readonly markers: boolean;
}

/** An edit before anything is written. */
export interface EditPlan {
  /** Empty: there is nothing to change. */
  readonly operations: readonly Operation[];
  /** Layers that were selected. */
  readonly selected: number;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
}

/** Names of `--remove-keys`, by kind. */
interface Removals {
  readonly keys: readonly string[];
  readonly tensors: ReadonlySet<string>;
}

/**
 * Returns what an edit changes in `source`.
 *
 * @throws UsageError if options contradict one another, the filter matches no layer, or a key or
 *   tensor to remove is not there; FormatError if what is to be edited cannot be read;
 *   UnsupportedError if there are no quantized layers to edit.
 */
export function planEdit(
  source: ModelSource,
  options: EditOptions,
  readBytes: ReadBytes,
): EditPlan {
  refuseContradictions(options);
  const listed = listedLayers(source);
  const layers = findQuantizedLayers(source, readBytes);
  // Dropping the list, or making it anew, is the way out of it.
  if (options.metadata === null && !options.markers) refuseAbsent(source, layers);
  const selected = select(source, layers, options);
  const objects = selected.map((layer) => objectsOf(source, layer, { readBytes, listed }));
  const removals = readRemovals(source, objects, options);
  const notes = unmarkedNotes(selected, options);
  const operations: Operation[] = [...removals.tensors].map((tensor) => ({
    kind: "remove",
    tensor,
    place: tensor,
    detail: "tensor removed",
  }));
  const list = new Map(listed);
  for (const before of objects) {
    const after = editLayer(source, before, { options, removals });
    if (after.marker !== null && !sameObject(before.marker, after.marker)) {
      const detail = differences(before.marker, after.marker);
      operations.push(writeMarker(before.layer, after.marker, detail));
    }
    const key = before.layer.listedAs ?? before.layer.layer;
    if (after.listed === null) list.delete(key);
    else if (!sameObject(before.listed, after.listed)) list.set(key, after.listed);
  }
  operations.push(...writeListed(source, list, `rewritten, ${list.size} layers listed`));
  return { operations, selected: selected.length, notes };
}

function refuseContradictions({ removeKeys, addKeys, metadata, markers }: EditOptions): void {
  const both = removeKeys.find((key) => addKeys.has(key));
  if (both !== undefined) {
    throw new UsageError(
      `Cannot remove and add the key ${JSON.stringify(both)}: --add-keys replaces a value`,
    );
  }
  if (removeKeys.length === 0 && addKeys.size === 0 && metadata === null && !markers) {
    throw new UsageError(
      "Nothing to edit: name --remove-keys, --add-keys, --[no-]save-quant-metadata or --comfy_quant",
    );
  }
}

function select(
  source: ModelSource,
  layers: readonly QuantizedLayer[],
  { filter, removeKeys, addKeys, metadata, markers }: EditOptions,
): QuantizedLayer[] {
  const selected = layers.filter(({ layer }) => filter === null || filter.test(layer));
  const isForLayers = addKeys.size > 0 || metadata !== null || markers ||
    removeKeys.some((key) => !tensorsByName(source).has(key));
  if (layers.length === 0 && isForLayers) {
    throw new UnsupportedError(
      `Cannot edit ${JSON.stringify(source.path)}: it has no quantized layers`,
    );
  }
  if (filter !== null && selected.length === 0) {
    const near = nearest(filter.source, layers.map(({ layer }) => layer));
    throw new UsageError(
      `Cannot use --quant-filter ${JSON.stringify(filter.source)}: no quantized layer matches; ` +
        `the nearest is ${JSON.stringify(near)}`,
    );
  }
  return selected;
}

function readRemovals(
  source: ModelSource,
  objects: readonly LayerObjects[],
  { removeKeys }: EditOptions,
): Removals {
  const byName = tensorsByName(source);
  const known = new Set(
    objects.flatMap(({ marker, listed }) => [
      ...Object.keys(marker ?? {}),
      ...Object.keys(listed ?? {}),
    ]),
  );
  const tensors = new Set<string>();
  const keys: string[] = [];
  for (const key of removeKeys) {
    const parts = key.startsWith(".")
      ? objects.map(({ layer }) => partName(layer.layer, key.slice(1)))
        .filter((name) => byName.has(name))
      : [];
    if (byName.has(key)) tensors.add(key);
    else if (known.has(key)) keys.push(key);
    else if (parts.length > 0) { for (const name of parts) tensors.add(name); }
    else {
      const near = nearest(key, [...known, ...byName.keys()]);
      throw new UsageError(
        `Cannot remove ${JSON.stringify(key)}: ${JSON.stringify(source.path)} has no tensor, ` +
          `and no selected layer a key, of that name; the nearest is ${JSON.stringify(near)}`,
      );
    }
  }
  return { keys, tensors };
}

/** Returns the new objects of a layer. */
function editLayer(
  source: ModelSource,
  { layer, ...before }: LayerObjects,
  { options, removals }: { options: EditOptions; removals: Removals },
): { marker: LayerObject | null; listed: LayerObject | null } {
  const isGone = [layer.markerName, layer.weightName].some((name) =>
    name !== null && removals.tensors.has(name)
  );
  // The metadata wins over the tensors: an entry that stayed would undo the removal.
  if (isGone) return { marker: null, listed: null };
  const edit = (object: LayerObject | null) =>
    object === null ? null : editKeys(object, { ...options, removeKeys: removals.keys });
  const marker = edit(before.marker);
  const listed = edit(before.listed);
  const { metadata, markers } = options;
  const isTwofold = marker !== null && listed !== null && !sameObject(marker, listed);
  if (metadata === true && markers && isTwofold) {
    throw new UnsupportedError(
      `Cannot edit ${JSON.stringify(source.path)}: the marker of ${JSON.stringify(layer.layer)} ` +
        "and its entry in the metadata differ, and each is to be made from the other; " +
        "give one of --save-quant-metadata and --comfy_quant first",
    );
  }
  const fromList = layer.weightName !== null && (markers || metadata === false);
  return {
    marker: fromList ? listed ?? marker : marker,
    listed: metadata === null
      ? listed
      : metadata && layer.weightName !== null
      ? marker ?? listed
      : null,
  };
}

function editKeys(object: LayerObject, { removeKeys, addKeys }: EditOptions): LayerObject {
  const members = new Map(Object.entries(object));
  for (const key of removeKeys) members.delete(key);
  for (const [key, value] of addKeys) members.set(key, value);
  return Object.fromEntries(members);
}

/** Returns the changes, as `full_precision_matrix_mult: true added, group_size removed`. */
function differences(before: LayerObject | null, after: LayerObject): string {
  if (before === null) return "marker written";
  const show = (key: string, value: unknown) => `${key}: ${JSON.stringify(value)}`;
  const words = [
    ...Object.entries(after).flatMap(([key, value]) =>
      !Object.hasOwn(before, key)
        ? [`${show(key, value)} added`]
        : sameObject(before[key], value)
        ? []
        : [`${show(key, before[key])} -> ${JSON.stringify(value)}`]
    ),
    ...Object.keys(before).filter((key) => !Object.hasOwn(after, key)).map((key) =>
      `${key} removed`
    ),
  ];
  return words.join(", ");
}

function unmarkedNotes(
  selected: readonly QuantizedLayer[],
  { addKeys, metadata, markers }: EditOptions,
): string[] {
  if (addKeys.size === 0 && metadata === null && !markers) return [];
  const count = selected.filter(({ origin }) => origin === "unmarked").length;
  if (count === 0) return [];
  const layers = count === 1 ? "layer has" : "layers have";
  return [`${count} quantized ${layers} no marker to edit; \`quantsmith migrate\` writes one`];
}
