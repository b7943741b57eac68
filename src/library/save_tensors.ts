/** Writes tensors and converted weights to a file that ComfyUI loads: the last step of work on single weights. */

import { isWeightName } from "../core/layer_name.ts";
import { bytesOf } from "../core/bytes.ts";
import type { DType } from "../core/dtype.ts";
import { UsageError } from "../core/errors.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { markerBytes } from "../formats/marker.ts";
import { formatFor } from "../formats/written_format.ts";
import type { Scaling } from "../quant/scheme.ts";
import { layoutTensors } from "../safetensors/layout.ts";
import { checkOutput } from "../safetensors/leftovers.ts";
import { LockedOutput } from "../safetensors/locked_output.ts";
import type { ConvertedWeight } from "./convert_weight.ts";

/** Values of a tensor: what a loader's `getTensor` returns, or an array of the dtype. */
export interface TensorValues {
  /** Type of its elements. */
  readonly dtype: DType;
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Its values, or their bytes, little-endian, row-major. */
  readonly data: ArrayBufferView;
}

/** How {@link saveTensors} writes. */
export interface SaveOptions {
  /** The `__metadata__` of the file. Default: none. */
  readonly metadata?: Readonly<Record<string, string>> | null;
  /** Replace an existing file. Default: false. */
  readonly force?: boolean;
}

/**
 * Writes a safetensors file; it appears under its name only when it is complete and synced.
 *
 * @param path ends with `.safetensors`.
 * @param tensors by name. A converted weight, named like the weight (`blocks.0.lin.weight`), is written as
 *   ComfyUI reads it: codes, `weight_scale` and the `comfy_quant` marker.
 * @throws UsageError for a path, a name or a weight that cannot be written so; RangeError if values do not fit
 *   a shape; UnsupportedError if the file exists and `force` is not set; Error if writing fails.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { mkdtempSync, rmSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { GPTQInt8Converter } from "./gptq_int8_converter.ts";
 * import { UnifiedSafetensorsLoader } from "../safetensors/loader.ts";
 * const folder = mkdtempSync(join(tmpdir(), "example-")), path = join(folder, "m.safetensors");
 * const data = Float32Array.from({ length: 256 * 256 }, (_, i) => Math.sin(i * i));
 * await saveTensors(path, { "lin.weight": { dtype: "F32", shape: [256, 256], data } });
 * using loader = new UnifiedSafetensorsLoader(path);
 * const weight = new GPTQInt8Converter().convert(loader.getTensor("lin.weight"));
 * const small = join(folder, "int8.safetensors");
 * await saveTensors(small, { "lin.weight": weight });
 * using written = new UnifiedSafetensorsLoader(small);
 * assert.deepEqual(written.keys().toSorted(), [
 *   "lin.comfy_quant",
 *   "lin.weight",
 *   "lin.weight_scale",
 * ]);
 * rmSync(folder, { recursive: true });
 * ```
 */
export async function saveTensors(
  path: string,
  tensors: Readonly<Record<string, TensorValues | ConvertedWeight>>,
  { metadata = null, force = false }: SaveOptions = {},
): Promise<void> {
  if (!path.endsWith(".safetensors")) {
    throw new UsageError(`Cannot write ${JSON.stringify(path)}: its name must end in .safetensors`);
  }
  const values = new Map<string, TensorValues>();
  const add = (name: string, value: TensorValues) => {
    if (values.has(name)) throw new UsageError(`Cannot write tensor ${JSON.stringify(name)} twice`);
    values.set(name, value);
  };
  for (const [name, value] of Object.entries(tensors)) {
    if (!("codes" in value)) add(name, value);
    else for (const [own, part] of layerTensors(name, value)) add(own, part);
  }
  const infos = [...values].map(([name, { dtype, shape }]): TensorInfo => ({ name, dtype, shape }));
  const { header, totalBytes, entries } = layoutTensors(infos, metadata);
  await checkOutput(path, { force });
  using output = await LockedOutput.create(path, { header, totalBytes }, { force });
  for (const { name, offsetBytes, byteLength } of entries) {
    const bytes = bytesOf(values.get(name)!.data);
    if (bytes.length !== byteLength) {
      throw new RangeError(
        `Cannot write tensor ${JSON.stringify(name)}: its shape takes ${byteLength} bytes, ` +
          `its values have ${bytes.length}`,
      );
    }
    output.set.write(bytes, offsetBytes);
  }
  await output.commit();
}

/** The tensors of a quantized layer. */
function layerTensors(name: string, weight: ConvertedWeight): [string, TensorValues][] {
  const what = `Cannot write ${JSON.stringify(name)}`;
  if (!isWeightName(name)) {
    throw new UsageError(`${what}: a converted weight is named like the weight, LAYER.weight`);
  }
  const { codes, scale, scaleShape, space, grid: { rows, cols, groupRows, groupCols } } = weight;
  if (space.kind === "sylvester") {
    throw new UsageError(
      `${what}: codes that are stored transformed are written by \`convertToInt8\` alone`,
    );
  }
  const isWhole = groupCols === cols && (groupRows === 1 || groupRows === rows);
  const scaling: Scaling = !isWhole
    ? groupRows === 1 ? { kind: "group", groupCols } : { kind: "block", blockSize: groupCols }
    : { kind: groupRows === rows && rows > 1 ? "tensor" : "row" };
  const target = scaleShape.length === 1 && rows > 1 ? "ctq" : "comfyui";
  const format = {
    format: formatFor({ scaling, isRotated: space.kind === "convrot", target }),
    ...(isWhole ? {} : { group_size: groupCols }),
  };
  const rotation = space.kind === "convrot"
    ? { convrot: true, convrot_groupsize: space.groupSize }
    : {};
  const marker = markerBytes({ ...format, ...rotation });
  const layer = name.slice(0, -"weight".length);
  return [
    [name, { dtype: "I8", shape: [rows, cols], data: codes }],
    [`${layer}weight_scale`, { dtype: "F32", shape: scaleShape, data: scale }],
    [`${layer}comfy_quant`, { dtype: "U8", shape: [marker.length], data: marker }],
  ];
}
