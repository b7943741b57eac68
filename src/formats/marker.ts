/** The `comfy_quant` marker of a layer, and the same in the header's `_quantization_metadata`. */

import { isJsonObject } from "../core/json.ts";
import type { Scheme } from "../quant/scheme.ts";

/** The marker of a layer; keys in the order the official files write them. */
export type Marker = Record<string, string | number | boolean>;

/**
 * Returns the marker object of a scheme.
 *
 * @param options `experts`: how many matrices a bank holds; `grid`: what a format that is no INT8 says of
 * its own.
 */
export function markerOf(
  scheme: Scheme,
  { fullPrecisionMatrixMult }: { fullPrecisionMatrixMult: boolean },
  { experts, grid }: { experts?: number | undefined; grid?: Readonly<Marker> | undefined } = {},
): Marker {
  const marker: Marker = { format: scheme.format };
  if (experts !== undefined) marker["num_experts"] = experts;
  if (grid !== undefined) {
    return {
      ...marker,
      ...grid,
      ...(fullPrecisionMatrixMult ? { full_precision_matrix_mult: true } : {}),
    };
  }
  if (scheme.scaling.kind === "block") marker["group_size"] = scheme.scaling.blockSize;
  if (scheme.scaling.kind === "group") marker["group_size"] = scheme.scaling.groupCols;
  if (scheme.convrotGroupSize !== null) {
    marker["convrot"] = true;
    marker["convrot_groupsize"] = scheme.convrotGroupSize;
  }
  if (fullPrecisionMatrixMult) marker["full_precision_matrix_mult"] = true;
  return marker;
}

/**
 * Returns the bytes of a marker as Python's `json.dumps` writes it, which the official files hold: a
 * space after `:` and `,`. 72 bytes for the default, no padding.
 */
export function markerBytes(marker: Readonly<Record<string, unknown>>): Uint8Array {
  return new TextEncoder().encode(pythonJson(marker));
}

/** Returns a JSON value as Python's `json.dumps` writes it, but for characters beyond ASCII. */
function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  const members = Object.entries(value).map(([key, member]) =>
    `${JSON.stringify(key)}: ${pythonJson(member)}`
  );
  return `{${members.join(", ")}}`;
}

/** Returns the value of the `_quantization_metadata` key for the markers of all layers. */
export function quantizationMetadata(markers: ReadonlyMap<string, Marker>): string {
  return JSON.stringify({ format_version: "1.0", layers: Object.fromEntries(markers) });
}
