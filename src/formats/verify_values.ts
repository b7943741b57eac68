/** The rules on the values of scales, checked one by one, and what a scale of zero destroys. */

import { bf16ToF32, type DType, f16ToF32, f8e4m3ToF32, f8e5m2ToF32 } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { QuantizedLayer, ReadBytes } from "./quant_layers.ts";
import type { Problem } from "./problem.ts";

/** What is odd about the values of one scale tensor. */
interface OddScales {
  notFinite: number;
  negative: number;
  /** Flat indexes of scales that are zero. */
  readonly zeros: number[];
}

/**
 * Returns the problems of a layer's scale values.
 *
 * @param weight the layer's weight, read only where a scale is zero.
 * @param scale the layer's scale.
 */
export function scaleValueProblems(
  layer: QuantizedLayer,
  { weight, scale }: { weight: SourceTensor; scale: SourceTensor },
  readBytes: ReadBytes,
): Problem[] {
  const valueAt = reader(scale.dtype, readBytes(scale));
  if (valueAt === null) return [];
  const count = scale.shape.reduce((product, size) => product * size, 1);
  const odd: OddScales = { notFinite: 0, negative: 0, zeros: [] };
  for (let i = 0; i < count; i++) {
    const value = valueAt(i);
    if (!Number.isFinite(value)) odd.notFinite++;
    else if (value < 0) odd.negative++;
    else if (value === 0) odd.zeros.push(i);
  }
  const problems: Problem[] = [];
  const report = (rule: string, effect: string, detail: string): void => {
    problems.push({ layer: layer.layer, rule, effect, severity: "error", detail });
  };
  const of = `of the ${count} values of ${scale.name}`;
  if (odd.notFinite > 0) {
    report("scale-not-finite", "loads, computes NaN", `${odd.notFinite} ${of} are NaN or infinite`);
  }
  if (odd.negative > 0) {
    const detail = `${odd.negative} ${of} are negative, which no quantizer writes`;
    report("scale-negative", "loads, computes with the opposite signs", detail);
  }
  const lost = odd.zeros.length === 0 ? 0 : lostScales(odd.zeros, { weight, count }, readBytes);
  if (lost > 0) {
    const detail = `${lost} ${of} are zero where the codes are not`;
    report("scale-zero", "loads, computes with zeros: garbage", detail);
  }
  return problems;
}

/**
 * Returns how many of the zero scales hide codes: all of them where a scale covers rows in one run, and
 * the codes of that run are not zero. For tiles, whose codes do not lie in one run, every zero counts.
 */
function lostScales(
  zeros: readonly number[],
  { weight, count }: { weight: SourceTensor; count: number },
  readBytes: ReadBytes,
): number {
  const rows = weight.shape.slice(0, -1).reduce((product, size) => product * size, 1);
  if (count !== 1 && count !== rows) return zeros.length;
  const codes = readBytes(weight);
  const run = codes.length / count;
  return zeros.filter((i) => codes.subarray(i * run, (i + 1) * run).some((code) => code !== 0))
    .length;
}

/** Returns how value `i` is read from the bytes of a scale; null for dtypes with layouts of their own. */
function reader(dtype: DType, bytes: Uint8Array): ((index: number) => number) | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (dtype) {
    case "F64":
      return (i) => view.getFloat64(8 * i, true);
    case "F32":
      return (i) => view.getFloat32(4 * i, true);
    case "F16":
      return (i) => f16ToF32(view.getUint16(2 * i, true));
    case "BF16":
      return (i) => bf16ToF32(view.getUint16(2 * i, true));
    case "F8_E4M3":
      return (i) => f8e4m3ToF32(view.getUint8(i));
    case "F8_E5M2":
      return (i) => f8e5m2ToF32(view.getUint8(i));
    default:
      return null;
  }
}
