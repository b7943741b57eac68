/** The rules on the values of scales, checked one by one, and what a scale of zero destroys. */

import { FormatError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { isRefusal } from "./format.ts";
import type { MatrixSource, PackedScale } from "./matrix_source.ts";
import type { ReadBytes } from "./marker_reader.ts";
import {
  byCode,
  decodeByteScales,
  decodeTiledScales,
  scalesAcross,
  unpackLevels,
} from "./packed_codes.ts";
import type { Problem } from "./problem.ts";
import { scaleReader } from "./scale_values.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { decodeLayer, tensorsByName } from "./stored_matrix.ts";

/** Oddity of the values of one scale tensor. */
interface OddScales {
  notFinite: number;
  negative: number;
  /** Indexes of scales that are zero, row-major over groups. */
  readonly zeros: number[];
}

/**
 * Returns the problems of the values of a layer's scales; none for a layer that cannot be decoded.
 *
 * @param tensors those of the model, by name; the codes are read only if a scale is zero.
 * @param isKnown whether a tensor's bytes can be read. Default: all can.
 */
export function scaleValueProblems(
  layer: QuantizedLayer,
  tensors: ReadonlyMap<string, SourceTensor>,
  { readBytes, isKnown = () => true }: {
    readBytes: ReadBytes;
    isKnown?: (tensor: SourceTensor) => boolean;
  },
): Problem[] {
  if (layer.weightName === null) return [];
  const matrix = decodeLayer(layer);
  if (isRefusal(matrix)) return [];
  const codes = tensors.get(layer.weightName)!;
  const problems: Problem[] = [];
  for (const scale of matrix.scale === null ? matrix.packed?.scales ?? [] : [matrix.scale]) {
    const tensor = tensorAt(layer, scale);
    if (tensor === null || !isKnown(tensor)) continue;
    problems.push(...problemsOf(layer.layer, { tensor, scale, matrix, codes }, readBytes));
  }
  const { smoothFactors } = matrix;
  const smooth = smoothFactors === undefined ? null : tensorAt(layer, smoothFactors);
  if (smooth !== null && isKnown(smooth)) {
    problems.push(...divisorProblems(layer.layer, smooth, readBytes(smooth)));
  }
  const levels = matrix.packed?.levels;
  const table = levels === undefined || levels instanceof Float32Array
    ? null
    : tensorAt(layer, levels);
  if (table !== null && isKnown(table)) {
    problems.push(...tableProblems(layer.layer, table, readBytes(table)));
  }
  return problems;
}

/** A table of values that are no numbers, or that do not ascend. */
function tableProblems(layer: string, { name }: SourceTensor, bytes: Uint8Array): Problem[] {
  const values = new Float32Array(bytes.slice().buffer);
  const bad = values.filter((value) => !Number.isFinite(value)).length;
  if (bad > 0) {
    return [{
      layer,
      rule: "table-not-finite",
      effect: "loads, computes NaN",
      severity: "error",
      detail: `${bad} of the ${values.length} values of ${name} are NaN or infinite`,
    }];
  }
  const at = values.findIndex((value, i) => i > 0 && value <= values[i - 1]!);
  if (at === -1) return [];
  return [{
    layer,
    rule: "table-not-sorted",
    effect: "loads and computes; tools that look for the nearest value need it ascending",
    severity: "warning",
    detail: `value ${at} of ${name} is not above the one before it`,
  }];
}

/**
 * Throws what is wrong with the scales of the first layer that has such, before values are restored by them.
 *
 * @param layers all can be decoded.
 */
export function refuseOddScales(
  model: ModelSource,
  layers: readonly QuantizedLayer[],
  readBytes: ReadBytes,
): void {
  const tensors = tensorsByName(model);
  for (const layer of layers) {
    const problem = scaleValueProblems(layer, tensors, { readBytes })
      .find(({ rule }) => rule !== "table-not-sorted");
    if (problem === undefined) continue;
    throw new FormatError(`${problem.rule}: ${problem.detail}`, {
      path: model.path,
      tensor: layer.weightName!,
      hint: "`quantsmith verify` lists all layers of this kind",
    });
  }
}

/** The companion that begins at a place in the file. */
function tensorAt(
  { tensors }: QuantizedLayer,
  { file, offsetBytes }: { file: number; offsetBytes: number },
): SourceTensor | null {
  return [...tensors.parts.values()].find((tensor) =>
    tensor.file === file && tensor.offsetBytes === offsetBytes && tensor.byteLength > 0
  ) ?? null;
}

interface CheckedScale {
  readonly tensor: SourceTensor;
  readonly scale: PackedScale;
  readonly matrix: MatrixSource;
  readonly codes: SourceTensor;
}

function problemsOf(layer: string, checked: CheckedScale, readBytes: ReadBytes): Problem[] {
  const { tensor, scale, matrix } = checked;
  const { rows, cols } = matrix.transform ?? matrix;
  const across = scalesAcross(scale, cols), bands = Math.ceil(rows / scale.groupRows);
  const values = scaleValues(scale, readBytes(tensor), { across, count: across * bands });
  const odd: OddScales = { notFinite: 0, negative: 0, zeros: [] };
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) odd.notFinite++;
    else if (value < 0) odd.negative++;
    else if (value === 0) odd.zeros.push(i);
  }
  const problems: Problem[] = [];
  const report = (rule: string, effect: string, detail: string): void => {
    problems.push({ layer, rule, effect, severity: "error", detail });
  };
  const of = `of the ${values.length} values of ${tensor.name}`;
  if (odd.notFinite > 0) {
    report("scale-not-finite", "loads, computes NaN", `${odd.notFinite} ${of} are NaN or infinite`);
  }
  if (odd.negative > 0) {
    const detail = `${odd.negative} ${of} are negative, which no quantizer writes`;
    report("scale-negative", "loads, computes with the opposite signs", detail);
  }
  const lost = odd.zeros.length === 0 ? 0 : lostScales(odd.zeros, checked, { readBytes, across });
  if (lost > 0) {
    const detail = `${lost} ${of} are zero, and their codes are not`;
    report("scale-zero", "loads, computes with zeros: garbage", detail);
  }
  return problems;
}

function scaleValues(
  scale: PackedScale,
  bytes: Uint8Array,
  { across, count }: { across: number; count: number },
): Float32Array | Float64Array {
  if (scale.tiledAcross !== undefined) {
    const values = new Float32Array(count);
    decodeTiledScales(values, bytes, scale, { firstBand: 0, across });
    return values;
  }
  if (scale.dtype === "F8_E8M0") {
    const values = new Float32Array(count);
    decodeByteScales(values, bytes, scale.dtype);
    return values;
  }
  const valueAt = scaleReader(scale.dtype, bytes);
  return Float64Array.from({ length: count }, (_, index) => valueAt(index));
}

/** Returns how many of the zero scales hide codes that stand for something. */
function lostScales(
  zeros: readonly number[],
  { scale, matrix, codes }: CheckedScale,
  { readBytes, across }: { readBytes: ReadBytes; across: number },
): number {
  const bytes = readBytes(codes);
  const { rows, cols } = matrix.transform ?? matrix;
  const { packed } = matrix;
  // Whatever the levels are: a code is lost unless it stands for zero.
  const levels = packed === undefined
    ? byCode(256, (code) => matrix.dtype === "I8" ? code : code & 0x7f)
    : packed.levels instanceof Float32Array
    ? packed.levels
    : byCode(packed.levelCount, () => 1);
  const plain = {
    fields: [{ firstByte: 0, bits: 8, highFirst: false }] as const,
    levels,
    levelCount: 256,
  };
  const layout = packed ?? { ...plain, rowBytes: cols, scales: [] };
  const isZero = levels[0] === 0;
  return zeros.filter((index) => {
    const row = Math.floor(index / across) * scale.groupRows;
    const col = (index % across) * scale.groupCols;
    const height = Math.min(scale.groupRows, rows - row),
      width = Math.min(scale.groupCols, cols - col);
    const run = bytes.subarray(row * layout.rowBytes, (row + height) * layout.rowBytes);
    if (isZero && isAllZero(run)) return false; // also if only a part of these columns is asked for
    const line = new Float32Array(width);
    for (let r = row; r < row + height; r++) {
      const raw = bytes.subarray(r * layout.rowBytes, (r + 1) * layout.rowBytes);
      unpackLevels(line, raw, layout, { levels, part: { row: r, col, rows: 1, cols: width } });
      if (line.some((value) => value !== 0)) return true;
    }
    return false;
  }).length;
}

/** Four bytes at a time. */
function isAllZero(bytes: Uint8Array): boolean {
  const isZero = (byte: number) => byte === 0;
  if (bytes.length < 8) return bytes.every(isZero);
  const skew = -bytes.byteOffset & 3, words = (bytes.length - skew) >> 2;
  const middle = new Uint32Array(bytes.buffer, bytes.byteOffset + skew, words);
  for (let i = 0; i < words; i++) if (middle[i] !== 0) return false;
  return bytes.subarray(0, skew).every(isZero) && bytes.subarray(skew + 4 * words).every(isZero);
}

function divisorProblems(layer: string, tensor: SourceTensor, bytes: Uint8Array): Problem[] {
  const valueAt = scaleReader("F32", bytes);
  let bad = 0;
  for (let i = 0; i < bytes.length / 4; i++) {
    const value = valueAt(i);
    if (!Number.isFinite(value) || value === 0) bad++;
  }
  if (bad === 0) return [];
  return [{
    layer,
    rule: "smooth-factors-values",
    effect: "its columns cannot be restored",
    severity: "error",
    detail: `${bad} of the ${bytes.length / 4} values of ${tensor.name} are zero, NaN or infinite`,
  }];
}
