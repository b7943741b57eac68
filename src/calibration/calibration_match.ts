/** Checks that calibration data is of the model at hand, and which parts of it are unused. */

import { layerName } from "../core/layer_name.ts";
import { FormatError } from "../core/errors.ts";
import type { Tensors } from "../core/tensor.ts";
import type { Calibration } from "./calibration.ts";
import { expertName } from "./expert_name.ts";
import { knownExperts } from "./expert_statistics.ts";
import type { Plan } from "../plan/plan.ts";

/** Names in a sentence about layers that a dry run lists anyway. */
const NAMES_MAX = 8;

/**
 * Returns what of the data has no place in the model, one sentence.
 *
 * @param tensors of the model; quantized ones as what they dequantize to.
 * @throws FormatError if the data knows no layer of the model at all, or has another number of channels
 * than the weight, in any field.
 */
export function matchCalibration(
  { path, fields }: Calibration,
  tensors: Tensors,
): string[] {
  const shapes = new Map(tensors.map(({ name, shape }) => [layerName(name), shape]));
  for (const [name, shape] of [...shapes]) {
    if (shape.length !== 3) continue;
    for (const expert of knownExperts(fields, name, shape[0]!)) {
      shapes.set(expertName(name, expert), shape);
    }
  }
  const unknown: string[] = [];
  for (const [layer, known] of fields) {
    const shape = shapes.get(layer);
    if (shape === undefined) unknown.push(layer);
    if (shape?.length !== 2 && shape?.length !== 3) continue;
    for (const [field, { cols }] of Object.entries(known)) {
      if (field === "input_scale" || cols === shape.at(-1)) continue;
      throw new FormatError(
        `${field} of ${JSON.stringify(layer)} has ${cols} channels, its weight has ${
          shape.at(-1)
        } columns`,
        { path, hint: "calibrate with this model" },
      );
    }
  }
  if (unknown.length === fields.size) refuseAll(path, unknown, tensors);
  if (unknown.length === 0) return [];
  return [
    `the calibration data has ${counted(unknown.length)} that the model does not: ${
      unknown.map((name) => JSON.stringify(name)).join(", ")
    }`,
  ];
}

function refuseAll(
  path: string,
  unknown: readonly string[],
  tensors: Tensors,
): never {
  const [first] = unknown;
  if (first === undefined) {
    throw new FormatError("it has no statistics of any layer", {
      path,
      hint: "leave out --calibration-data, or calibrate again",
    });
  }
  const own = tensors.find(({ shape }) => shape.length === 2)?.name;
  throw new FormatError(
    `it knows none of the model's layers: it has ${JSON.stringify(first)}` +
      (own === undefined ? "" : `, the model has ${JSON.stringify(layerName(own))}`),
    { path, hint: "calibrate with this model, and name layers as it does" },
  );
}

/** Returns which layers of the data are not quantized, so that it has no use there, one sentence. */
export function unusedCalibration(
  { fields }: Calibration,
  { tensors }: Pick<Plan, "tensors">,
): string[] {
  const unused = tensors
    .filter(({ source, scheme }) => scheme === null && fields.has(layerName(source.name)))
    .map(({ source }) => JSON.stringify(layerName(source.name)));
  if (unused.length === 0) return [];
  const rest = unused.length - NAMES_MAX;
  return [
    `the calibration data has ${counted(unused.length)} that ${
      unused.length === 1 ? "is" : "are"
    } not quantized: ${unused.slice(0, NAMES_MAX).join(", ")}` +
    (rest > 0
      ? ` and ${rest} more (\`--dry-run\` has the reasons)`
      : " (`--dry-run` has the reasons)"),
  ];
}

/** Returns how many experts of quantized banks the data knows, one sentence; none if it knows none by itself. */
export function calibratedExperts(
  known: { has(layer: string): boolean },
  { tensors }: Pick<Plan, "tensors">,
): string[] {
  let banks = 0, all = 0, calibrated = 0, isRest = false;
  for (const { source: { name, shape }, scheme } of tensors) {
    const own = scheme === null || shape.length !== 3
      ? []
      : knownExperts(known, layerName(name), shape[0]!);
    if (own.length === 0) continue;
    banks++;
    all += shape[0]!;
    calibrated += own.length;
    isRest ||= own.length < shape[0]! && !known.has(layerName(name));
  }
  if (banks === 0) return [];
  return [
    `${calibrated} of ${all} experts in ${banks} ${
      banks === 1 ? "bank" : "banks"
    } have calibration ` +
    `data of their own${isRest ? "; experts that no data knows are rounded to nearest" : ""}`,
  ];
}

function counted(layers: number): string {
  return `${layers} ${layers === 1 ? "layer" : "layers"}`;
}
