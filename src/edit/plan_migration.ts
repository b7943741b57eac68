/**
 * The changes that make a file of another tool loadable by stock ComfyUI, without the original weights: exactly
 * if its values can be stated in the one format that loads, by rounding them once more if not.
 * Pure but for markers and scales, which the caller reads.
 */

import { UnsupportedError } from "../core/errors.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { isScaledFp8, type ReadBytes, readQuantizationMetadata } from "../formats/marker_reader.ts";
import { findQuantizedLayers, readQuantizedModel } from "../formats/quant_layers.ts";
import { refuseUnquantized, tensorsByName } from "../formats/stored_matrix.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { headerProblems, isError } from "../verify/verify.ts";
import { scaleValueProblems } from "../formats/verify_values.ts";
import type { LayerMigration, Refusal } from "./layer_migration.ts";
import { migrateLayer } from "./migrate_layer.ts";
import { writeListed } from "./layer_objects.ts";
import { applyOperations, type EditedModel, editedSource, type Operation } from "./operation.ts";

/** A migration before anything is written. */
export interface MigrationPlan {
  /** The model to write; its operations are empty if the file needs nothing. */
  readonly edited: EditedModel;
  /** How the weights that are rounded once more are read, by name. */
  readonly requantized: ReadonlyMap<string, MatrixSource>;
  /** Layers that are changed without a value of theirs changing. */
  readonly exact: number;
  /** Layers that were as they should be. */
  readonly untouched: number;
  /** Things a user should know, one sentence each. */
  readonly notes: readonly string[];
}

/** How many layers that cannot be migrated a message names. */
const LISTED = 5;

/**
 * Returns what makes `source` loadable.
 *
 * @param options.shapes of weights in another file of the same model, for those that `source` does not say.
 * @param options.asked with the format that all layers get, those that load included.
 * @throws UnsupportedError naming layers and rules if something cannot be put right, or if nothing
 *   is quantized; FormatError if markers cannot be read.
 */
export function planMigration(
  source: ModelSource,
  readBytes: ReadBytes,
  { shapes, asked = null }: {
    shapes?: ReadonlyMap<string, readonly number[]> | undefined;
    asked?: ConvertOptions | null;
  } = {},
): MigrationPlan {
  const { layers, emptyMarkers, notes } = readQuantizedModel(source, readBytes, { shapes });
  const weights = layers.filter(({ weightName }) => weightName !== null);
  // A file with empty markers alone loads once they are gone.
  if (emptyMarkers.length === 0 || layers.length > 0) {
    refuseUnquantized(source, { layers, emptyMarkers }, "migrate");
  }
  const migrations: LayerMigration[] = [];
  const refusals: Refusal[] = [];
  for (const layer of weights) {
    const result = migrateLayer(source, layer, readBytes, asked);
    if ("rule" in result) refusals.push(result);
    else migrations.push(result);
  }
  refuse(source, refusals);
  const changed = migrations.filter(({ operations }) => operations.length > 0);
  const edited = applyOperations(source, [
    ...changed.flatMap(({ operations }) => operations),
    ...listedChanges(source, changed),
    ...staleMarker(source, migrations),
    ...emptyMarkers.map((tensor): Operation => ({
      kind: "remove",
      tensor,
      place: tensor,
      detail: "removed: NUL bytes and nothing else",
    })),
  ]);
  const requantized = new Map<string, MatrixSource>();
  for (const { layer, matrix } of changed) {
    if (matrix !== null) requantized.set(layer.weightName!, matrix);
  }
  refuse(source, remainingFaults(edited, readBytes));
  return {
    edited,
    requantized,
    exact: changed.length - requantized.size,
    untouched: weights.length - changed.length,
    notes: [...notes, ...assumptions(changed), ...keptNotes(migrations)],
  };
}

/** The metadata wins over the markers: what it lists is put right too. */
function listedChanges(source: ModelSource, changed: readonly LayerMigration[]): Operation[] {
  const { layers, problem } = readQuantizationMetadata(source.metadata);
  if (problem !== null || layers.size === 0) return [];
  const list = new Map(layers);
  for (const { layer, object } of changed) {
    if (layer.listedAs === null || object === null) continue;
    list.delete(layer.listedAs);
    list.set(layer.layer, object);
  }
  return writeListed(source, list, "entries put right");
}

/** `scaled_fp8` in a file without such weights makes a loader take the INT8 codes for FP8. */
function staleMarker(source: ModelSource, migrations: readonly LayerMigration[]): Operation[] {
  const isNeeded = migrations.some(({ layer, operations }) =>
    layer.origin === "unmarked" && operations.length === 0
  );
  if (isNeeded) return [];
  return source.tensors.filter(({ name }) => isScaledFp8(name)).map(({ name }) => ({
    kind: "remove",
    tensor: name,
    place: name,
    detail: "removed: it announces FP8 weights, and there are none",
  }));
}

/** Rules that the result would break: what no operation can put right. */
function remainingFaults(edited: EditedModel, readBytes: ReadBytes): Refusal[] {
  const after = editedSource(edited, readBytes);
  const layers = findQuantizedLayers(after.source, after.readBytes);
  const contents = new Map(edited.outputs.map(({ name, content }) => [name, content.kind]));
  const byName = tensorsByName(after.source);
  const isKnown = ({ name }: { name: string }) =>
    ["copy", "inline"].includes(contents.get(name) ?? "");
  const values = layers.flatMap((layer) =>
    scaleValueProblems(layer, byName, { readBytes: after.readBytes, isKnown })
  );
  return [...headerProblems(after.source, layers, after.readBytes), ...values].filter(isError)
    .map(({ layer, rule, detail }) => ({ layer, rule, why: detail }));
}

function refuse(source: ModelSource, refusals: readonly Refusal[]): void {
  if (refusals.length === 0) return;
  const listed = refusals.slice(0, LISTED).map(({ layer, rule, why }) =>
    `${layer === "" ? "the file" : JSON.stringify(layer)}: ${rule}: ${why}`
  );
  const more = refusals.length > LISTED ? `; and ${refusals.length - LISTED} more` : "";
  throw new UnsupportedError(
    `Cannot migrate ${JSON.stringify(source.path)}: what is wrong with it cannot be put right ` +
      `from the file alone: ${listed.join("; ")}${more}`,
  );
}

/** Layers that do not get the format that was asked for, by the reason. */
function keptNotes(migrations: readonly LayerMigration[]): string[] {
  const reasons = new Map<string, LayerMigration[]>();
  for (const migration of migrations) {
    if (migration.kept === undefined) continue;
    const key = `${migration.matrix === null ? "left as they are" : "INT8"}: ${migration.kept}`;
    reasons.set(key, [...reasons.get(key) ?? [], migration]);
  }
  return [...reasons].map(([reason, those]) => {
    const names = those.slice(0, LISTED).map(({ layer }) => layer.layer).join(", ");
    const more = those.length > LISTED ? ` and ${those.length - LISTED} more` : "";
    return `not in the format that was asked for, but ${reason} (${names}${more})`;
  });
}

/** Assumptions if nothing says otherwise. */
function assumptions(changed: readonly LayerMigration[]): string[] {
  const count = changed.filter(({ layer }) => layer.marker === null && layer.markerName === null)
    .length;
  if (count === 0) return [];
  const layers = count === 1 ? "layer has" : "layers have";
  return [`${count} ${layers} no marker: the codes are taken as plain ones, not rotated`];
}
